"""One image -> the probability of every label."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any

from handlers.classified import check_labels, classified
from handlers.disguise import disguise
from handlers.errors import InvalidContentError
from handlers.image_input import ImageInput, read_input
from handlers.payload import Instance
from handlers.pool import Pool
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Task


class ImageClassification(Task):
    """Takes an image file, `{"data": "<base64>"}`, or `{"random": true, "group": ...}` for an image of the pool."""

    def __init__(self, labels: tuple[str, ...], source: ImageInput, pool: Pool | None) -> None:
        self._labels = labels
        self._input = source
        self._pool = pool

    def decode(self, instance: Instance) -> Item:
        """Pixels (side, side, 3), uint8 RGB."""
        if not isinstance(instance, bytes) and "random" in instance:
            return self._random_item(instance)
        return Item(self._input.pixels(instance))

    def encode(self, item: Item, row: Row) -> dict[str, Any]:
        best, rest = classified(self._labels, row["probabilities"])
        return {"label": self._labels[best], **rest, **item.extra}

    def _random_item(self, instance: Mapping[str, Any]) -> Item:
        if self._pool is None:
            raise InvalidContentError("'random' needs a pool of images, and this server has none (--pool DIR)")
        if instance["random"] is not True or set(instance) - {"random", "group"}:
            raise InvalidContentError("""expected {"random": true}, with "group" as the only other field""")
        group = instance.get("group")
        group = self._pool.any_group() if group is None else self._pool.check_group(group)
        shown = disguise(self._pool.draw(group, 1)[0].read())
        served = {"id": secrets.token_urlsafe(12), "data": base64.b64encode(shown).decode(), "group": group}
        return Item(self._input.pixels(shown), {"image": served})


def build(spec: HandlerSpec, pool: Pool | None) -> ImageClassification:
    source = read_input(spec, "probabilities")
    check_labels(spec)
    return ImageClassification(spec.labels, source, pool)
