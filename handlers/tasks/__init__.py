"""What a model is for. A task is one module with a `build(spec, pool)` that returns its `Task`; a spec names it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from handlers.errors import SpecError
from handlers.payload import Instance
from handlers.pool import Pool
from handlers.spec import HandlerSpec


@dataclass(frozen=True, slots=True)
class Item:
    """One decoded instance: what the network takes (None where there is none), and what the reply repeats."""

    array: NDArray[Any] | None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    def decode(self, instance: Instance) -> Item:
        """One instance -> what the network takes. Raises RequestError."""

    def encode(self, item: Item, row: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """One item and its row of the network's outputs -> the reply, ready for JSON."""


def build_task(spec: HandlerSpec, pool: Pool | None) -> Task:
    """The task that `spec.task` names. Raises SpecError where there is none, or where the spec does not suit it."""
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if spec.task not in known:
        raise SpecError(f"handler.task must be one of {', '.join(known)}, not {spec.task!r}")
    task: Task = importlib.import_module(f"{__name__}.{spec.task}").build(spec, pool)
    return task
