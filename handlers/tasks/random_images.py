"""A challenge's images, drawn from a pool, for a caller who is trusted with the answers."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

from handlers import image
from handlers.disguise import disguise
from handlers.errors import InvalidContentError, SpecError
from handlers.payload import Instance, refuse_unknown
from handlers.pool import Pool
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Task

KINDS = ("drag_drop",)
MIN_PER_SIDE = 2
MIN_COUNT, MAX_COUNT = 2 * MIN_PER_SIDE, 24
_FIELDS = ("kind", "count", "group")
_random = secrets.SystemRandom()


class RandomImages(Task):
    """`{"kind": "drag_drop", "count": 6, "group": "animal"}` -> that many images of two groups, mixed."""

    form: ClassVar[Mapping[str, Any] | None] = {
        "kind": "text",
        "images": [{"id": "text", "data": "text", "group": "text"}],
        "groups": ["text"],
        "pool": {"size": "number", "groups": {"*": "number"}},
    }

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def decode(self, instance: Instance) -> Item:
        """Check what is asked for; nothing is drawn before the whole request is known to be good."""
        if isinstance(instance, bytes):
            raise InvalidContentError("""expected JSON: {"kind": "drag_drop", "count": 6}""")
        refuse_unknown(instance.keys() - set(_FIELDS), _FIELDS)
        if instance.get("kind") not in KINDS:
            raise InvalidContentError(f"'kind' must be one of {', '.join(KINDS)}")
        count = instance.get("count", 6)
        if type(count) is not int or not MIN_COUNT <= count <= MAX_COUNT:
            raise InvalidContentError(f"'count' must be a whole number from {MIN_COUNT} to {MAX_COUNT}")
        group = instance.get("group")
        group = self._pool.any_group() if group is None else self._pool.check_group(group)
        sizes = self._pool.counts
        others = [name for name in sizes if name != group and sizes[group] + sizes[name] >= count]
        if not others:
            raise InvalidContentError(f"the pool has fewer than {count} images of {group!r} and another group")
        other = _random.choice(others)
        # No side gets more than the pool has of it.
        of_group = _random.randint(max(MIN_PER_SIDE, count - sizes[other]), min(count - MIN_PER_SIDE, sizes[group]))
        return Item(None, {"kind": instance["kind"], "sides": {group: of_group, other: count - of_group}})

    def encode(self, item: Item, row: Row) -> dict[str, Any]:  # noqa: ARG002
        sides: Mapping[str, int] = item.extra["sides"]
        drawn = [image for group, count in sides.items() for image in self._pool.draw(group, count)]
        _random.shuffle(drawn)
        return {
            "kind": item.extra["kind"],
            "images": [
                # The id is new at every serving: a lasting one would be a key to look answers up by.
                {
                    "id": secrets.token_urlsafe(12),
                    "data": base64.b64encode(disguise(image.read())).decode(),
                    "group": image.group,
                }
                for image in drawn
            ],
            "groups": sorted(sides),
            "pool": {"size": sum(self._pool.counts.values()), "groups": self._pool.counts},
        }


def build(spec: HandlerSpec, pool: Pool | None) -> RandomImages:
    if pool is None:
        raise SpecError("random_images needs a handler.pool, or MARSERVE_POOL in the environment")
    if spec.network is not None:
        raise SpecError("random_images runs no network: remove handler.network")
    image.use_one_thread()
    return RandomImages(pool)
