"""What a model is for. A task is one module with a `build(spec, pool)` that returns its `Task`; a spec names it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from numpy.typing import NDArray

from handlers.accept import JSON
from handlers.errors import InvalidContentError, SpecError
from handlers.options import NONE, Options
from handlers.payload import Instance
from handlers.pool import Pool
from handlers.spec import HandlerSpec

Row = Mapping[str, NDArray[Any]]  # one item's row of every output of the network
Run = Callable[[Sequence[NDArray[Any]]], Sequence[Row]]


class Item(NamedTuple):
    """One decoded instance: what the network takes (None where there is none), and what the task notes for later."""

    array: NDArray[Any] | None
    extra: Mapping[str, Any] = MappingProxyType({})


class Task:
    """The steps of an answer, in their order; `pipeline` runs the network between `gather` and `encode`."""

    # The form (`answers`) of a reply, where the same request is never answered the same; None where it always is.
    form: ClassVar[Mapping[str, Any] | None] = None
    # What a reply may be, the first where a request does not say. JSON is `encode`'s part, anything else `render`'s.
    media_types: ClassVar[tuple[str, ...]] = (JSON,)
    # What a request may set beside its content; `decode` finds it, checked, among the fields of the instance.
    options: Options = NONE

    def decode(self, instance: Instance) -> Item:
        """One instance -> its item. Raises RequestError."""
        raise NotImplementedError

    def gather(self, items: Sequence[Item]) -> Sequence[Item]:
        """What is cheaper on many: decoded items of a batch -> the same with their arrays. Raises RequestError."""
        return items

    def encode(self, item: Item, row: Row) -> dict[str, Any]:
        """One item and its row of the network's outputs -> the reply, ready for JSON."""
        raise NotImplementedError

    def render(self, item: Item, row: Row, media_type: str) -> tuple[bytes, dict[str, str]]:
        """As `encode`, in another of `media_types`: the reply's body, and headers of its own. Raises RequestError."""
        raise NotImplementedError

    def explain(self, item: Item, row: Row, run: Run) -> list[dict[str, Any]]:  # noqa: ARG002
        """What the answer rests on, the weightiest first, ready for JSON; `run` is the network. Raises RequestError."""
        raise InvalidContentError("this model does not explain its answers: ask /predictions, without 'explain'")


def build_task(spec: HandlerSpec, pool: Pool | None) -> Task:
    """The task that `spec.task` names. Raises SpecError where there is none, or where the spec does not suit it."""
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if spec.task not in known:
        raise SpecError(f"handler.task must be one of {', '.join(known)}, not {spec.task!r}")
    task: Task = importlib.import_module(f"{__name__}.{spec.task}").build(spec, pool)
    return task
