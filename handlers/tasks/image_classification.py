"""One image -> the probability of every label."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from handlers import image, payload
from handlers.disguise import disguise
from handlers.errors import InvalidContentError, SpecError
from handlers.pool import Pool
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Task


class ImageClassification(Task):
    """Takes an image file, `{"data": "<base64>"}`, or `{"random": true, "group": ...}` for an image of the pool."""

    def __init__(self, labels: tuple[str, ...], size: int, limits: image.Limits, pool: Pool | None) -> None:
        self._labels = labels
        self._size = size
        self._limits = limits
        self._pool = pool

    def decode(self, instance: payload.Instance) -> Item:
        """Pixels (size, size, 3), uint8 RGB."""
        if isinstance(instance, bytes):
            return Item(image.load(instance, self._size, self._limits))
        if "random" in instance:
            return self._random_item(instance)
        return Item(image.load(payload.binary(instance), self._size, self._limits))

    def encode(self, item: Item, row: Row) -> dict[str, Any]:
        probabilities = row["probabilities"]  # (labels,)
        best = int(probabilities.argmax())
        return {
            "label": self._labels[best],
            "confidence": round(float(probabilities[best]), 6),
            "probabilities": {label: round(float(p), 6) for label, p in zip(self._labels, probabilities, strict=True)},
            **item.extra,
        }

    def _random_item(self, instance: Mapping[str, Any]) -> Item:
        if self._pool is None:
            raise InvalidContentError("'random' needs a pool of images, and this server has none (--pool DIR)")
        if instance["random"] is not True or set(instance) - {"random", "group"}:
            raise InvalidContentError("""expected {"random": true}, with "group" as the only other field""")
        group = instance.get("group")
        group = self._pool.any_group() if group is None else self._pool.check_group(group)
        shown = disguise(self._pool.draw(group, 1)[0].read())
        served = {"id": secrets.token_urlsafe(12), "data": base64.b64encode(shown).decode(), "group": group}
        return Item(image.load(shown, self._size, self._limits), {"image": served})


def build(spec: HandlerSpec, pool: Pool | None) -> ImageClassification:
    network = spec.network
    if network is None:
        raise SpecError("image_classification needs a handler.network")
    if len(network.input_shape) != 3 or network.input_shape[0] != network.input_shape[1] or network.input_shape[2] != 3:
        raise SpecError("image_classification needs handler.network.input_shape [side, side, 3]")
    if network.input_type != "uint8" or network.outputs != ("probabilities",):
        raise SpecError("image_classification needs a network from uint8 pixels to 'probabilities'")
    if len(spec.labels) < 2 or len(set(spec.labels)) < len(spec.labels):
        raise SpecError("image_classification needs at least two handler.labels, each once")
    image.use_one_thread()
    limits = image.Limits(**asdict(spec.limits))
    return ImageClassification(spec.labels, network.input_shape[0], limits, pool)
