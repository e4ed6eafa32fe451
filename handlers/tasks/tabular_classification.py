"""A row of named numbers -> the probability of every label."""

from __future__ import annotations

from typing import Any

from handlers.classified import check_labels, classified
from handlers.errors import InvalidContentError, SpecError
from handlers.features import FeatureReader
from handlers.payload import Instance
from handlers.pool import Pool
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Task


class TabularClassification(Task):
    """Takes `{"features": {name: value}}`, or `{"features": [value, ...]}` in the order of the spec's `features`."""

    def __init__(self, spec: HandlerSpec) -> None:
        """Raises SpecError where the spec does not suit."""
        network, count = spec.network, len(spec.features)
        if not spec.features or len(set(spec.features)) < count:
            raise SpecError(f"{spec.task} needs handler.features, each once")
        check_labels(spec)
        if network is None or (network.input_type, network.input_shape) != ("float32", (count,)):
            raise SpecError(f"{spec.task} needs a handler.network from float32 [{count}], one per feature")
        if network.outputs != ("probabilities",):
            raise SpecError(f"{spec.task} needs a handler.network to 'probabilities'")
        self._labels = spec.labels
        self._reader = FeatureReader(spec.features)

    def decode(self, instance: Instance) -> Item:
        """The row, (features,) float32."""
        if isinstance(instance, bytes) or set(instance) != {"features"}:
            raise InvalidContentError("""expected JSON: {"features": {name: number, ...}}, and nothing else""")
        return Item(self._reader.read(instance["features"]))

    def encode(self, item: Item, row: Row) -> dict[str, Any]:  # noqa: ARG002
        best, rest = classified(self._labels, row["probabilities"])
        return {"label": self._labels[best], **rest}


def build(spec: HandlerSpec, pool: Pool | None) -> TabularClassification:  # noqa: ARG001
    return TabularClassification(spec)
