"""An archive's model in this process, without a server: its answers are those of a worker with these handlers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from handlers.archive import unpack
from handlers.errors import SpecError
from handlers.pipeline import Pipeline
from handlers.spec import HandlerSpec, read_spec
from marserve.errors import MarserveError


def load_model(archive: Path, target: Path, tasks: Sequence[str]) -> tuple[Pipeline, HandlerSpec]:
    """Unpack an archive that marserve made into `target`, and load it as a worker does.

    Raises MarserveError, also for a model of another task than one of `tasks`.
    """
    try:
        unpack(archive, target)
        spec = read_spec(yaml.safe_load((target / "model-config.yaml").read_bytes()))
        if spec.task not in tasks:
            raise MarserveError(f"{archive} is for {spec.task}; what is wanted here is {' or '.join(tasks)}")
        return Pipeline.load(target, spec), spec
    except (SpecError, OSError, yaml.YAMLError) as error:
        raise MarserveError(f"{archive} cannot be used: {error}") from None
