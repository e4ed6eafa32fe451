"""One handwritten digit -> which it is, and how likely each of the ten."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handlers.classified import classified
from handlers.errors import InvalidContentError, SpecError
from handlers.image_input import ImageInput, read_input
from handlers.payload import Instance, refuse_unknown
from handlers.pool import Pool
from handlers.samples import Sample, read_samples
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Task

LABELS = tuple("0123456789")
_FIELDS = ("index", "add_noise")


class DigitRecognition(Task):
    """Takes an image file, `{"data": "<base64>"}`, or `{"index": 100, "add_noise": false}` for one of its samples."""

    def __init__(self, source: ImageInput, samples: Sequence[Sample]) -> None:
        self._input = source
        self._samples = samples

    def decode(self, instance: Instance) -> Item:
        """Pixels (side, side, 3), uint8 RGB."""
        if not isinstance(instance, bytes) and instance.keys() & set(_FIELDS):
            return self._sample(instance)
        return Item(self._input.pixels(instance))

    def encode(self, item: Item, row: Row) -> dict[str, Any]:
        best, rest = classified(LABELS, row["probabilities"])
        return {"digit": best, **rest, **item.extra}

    def _sample(self, instance: Mapping[str, Any]) -> Item:
        count = len(self._samples)
        if not count:
            raise InvalidContentError("this model has no samples: send an image")
        refuse_unknown(instance.keys() - set(_FIELDS), _FIELDS)
        index, add_noise = instance.get("index"), instance.get("add_noise", False)
        if type(index) is not int or not 1 <= index <= count:
            raise InvalidContentError(f"'index' must be a whole number from 1 to {count}")
        if not isinstance(add_noise, bool):
            raise InvalidContentError("'add_noise' must be true or false")
        sample = self._samples[index - 1]
        shown = sample.with_noise() if add_noise else sample.data
        return Item(self._input.pixels(shown), {"label": int(sample.label), "image": base64.b64encode(shown).decode()})


def build(spec: HandlerSpec, pool: Pool | None) -> DigitRecognition:  # noqa: ARG001
    source = read_input(spec, "probabilities")
    if spec.labels != LABELS:
        raise SpecError(f"{spec.task} needs handler.labels {', '.join(LABELS)}")
    samples = read_samples(Path(spec.samples), LABELS) if spec.samples else []
    return DigitRecognition(source, samples)
