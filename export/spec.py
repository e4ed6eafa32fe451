"""`export/specs/NAME.yaml`: TorchServe's own keys, and the `handler:` section that travels to the workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from export.errors import ExportError
from handlers.errors import SpecError
from handlers.spec import HandlerSpec, read_spec

SPECS = Path(__file__).parent / "specs"


class ModelSpec(BaseModel):
    """TorchServe's keys under their own names. Left out on purpose: `clientTimeoutInMills` (drops requests without a
    reply) and `asyncCommunication` (fails with batches)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    minWorkers: int = Field(1, ge=1)  # noqa: N815
    maxWorkers: int = Field(1, ge=1)  # noqa: N815
    batchSize: int = Field(1, ge=1)  # noqa: N815
    # Milliseconds. 0 would silently mean TorchServe's default of 100.
    maxBatchDelay: int = Field(1, ge=1)  # noqa: N815
    responseTimeout: int = Field(30, ge=1)  # noqa: N815  # seconds
    startupTimeout: int = Field(60, ge=1)  # noqa: N815  # seconds
    maxRetryTimeoutInSec: int = Field(86_400, ge=1)  # noqa: N815  # TorchServe gives up a worker that fails for longer
    jobQueueSize: int = Field(1000, ge=1)  # noqa: N815
    deviceType: Literal["cpu", "gpu"] | None = None  # noqa: N815
    deviceIds: list[int] | None = None  # noqa: N815
    handler: dict[str, Any]

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(exclude_none=True), sort_keys=False)

    def handler_spec(self) -> HandlerSpec:
        """The section as the worker will read it. Raises ExportError."""
        try:
            return read_spec({"handler": self.handler})
        except SpecError as error:
            raise ExportError(str(error)) from error


def known_names(folder: Path = SPECS) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_model_spec(name: str, folder: Path = SPECS) -> ModelSpec:
    """Read and check `folder`/NAME.yaml. Raises ExportError naming every wrong key."""
    if name not in known_names(folder):
        raise ExportError(
            f"no spec for {name!r}: expected {folder}/{name}.yaml (known: {', '.join(known_names(folder))})"
        )
    path = folder / f"{name}.yaml"
    try:
        spec = ModelSpec.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise ExportError(f"{path} is not valid YAML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ExportError(f"{path}: {wrong}") from error
    if spec.maxWorkers < spec.minWorkers:
        raise ExportError(f"{path}: maxWorkers must be at least minWorkers")
    return spec
