"""One image -> the likeliest labels by the mean of several networks, and how many of those agree."""

from __future__ import annotations

from typing import Any

from handlers.classified import check_labels
from handlers.image_input import ImageInput, read_input
from handlers.payload import Instance
from handlers.pool import Pool
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Task

OUTPUTS = ("probabilities", "members")  # (labels,) and (networks, labels) of an item
TOP = 5


class EnsembleClassification(Task):
    """Takes an image file, or `{"data": "<base64>"}`."""

    def __init__(self, labels: tuple[str, ...], source: ImageInput) -> None:
        self._labels = labels
        self._input = source

    def decode(self, instance: Instance) -> Item:
        """Pixels (side, side, 3), uint8 RGB."""
        return Item(self._input.pixels(instance))

    def encode(self, item: Item, row: Row) -> dict[str, Any]:  # noqa: ARG002
        probabilities, members = row["probabilities"], row["members"]
        ranking = (-probabilities).argsort(kind="stable")[:TOP].tolist()
        top = [{"label": self._labels[i], "probability": round(float(probabilities[i]), 6)} for i in ranking]
        return {
            "label": top[0]["label"],
            "confidence": top[0]["probability"],
            "top": top,
            "agreement": round(float((members.argmax(axis=1) == ranking[0]).mean()), 6),
        }


def build(spec: HandlerSpec, pool: Pool | None) -> EnsembleClassification:  # noqa: ARG001
    source = read_input(spec, *OUTPUTS)
    check_labels(spec)
    return EnsembleClassification(spec.labels, source)
