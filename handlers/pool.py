"""A folder of grouped images to draw from: `pool.json` and the files that it names.

    {"attribution": "...", "images": [{"file": "k3v9.webp", "group": "animal"}, ...]}

The draw is unpredictable (the operating system's randomness) and does not repeat itself soon.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

from handlers.errors import InvalidContentError, SpecError

INDEX = "pool.json"
_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class PoolImage:
    path: Path
    group: str

    def read(self) -> bytes:
        return self.path.read_bytes()


class Pool:
    """The images of one pool by group, and which were drawn lately (per worker)."""

    def __init__(self, folder: Path) -> None:
        """Read `folder`/pool.json. Raises SpecError where it or a file it names is missing or wrong."""
        self._groups: dict[str, list[PoolImage]] = {}
        images, self.attribution = _read_index(folder)
        for image in images:
            self._groups.setdefault(image.group, []).append(image)
        if len(self._groups) < 2 or min(map(len, self._groups.values())) < 2:
            counts = ", ".join(f"{group}: {len(images)}" for group, images in self._groups.items()) or "none"
            raise SpecError(f"a pool needs two groups of two images at least; {folder} has {counts}")
        # Half of a group is barred from the next draws: the other half is always there to draw from.
        self._recent = {group: deque[PoolImage](maxlen=len(i) // 2) for group, i in self._groups.items()}
        self._drawing = threading.Lock()  # instances may be decoded side by side

    @property
    def counts(self) -> dict[str, int]:
        return {group: len(images) for group, images in sorted(self._groups.items())}

    def check_group(self, group: object) -> str:
        """`group` if the pool has it; raises InvalidContentError naming those it has."""
        if isinstance(group, str) and group in self._groups:
            return group
        raise InvalidContentError(f"'group' must be one of {', '.join(sorted(self._groups))}")

    def draw(self, group: str, count: int) -> list[PoolImage]:
        """`count` different images of a group, none of them drawn lately while others are left.

        Raises InvalidContentError where the group has fewer than `count`.
        """
        images, recent = self._groups[group], self._recent[group]
        if count > len(images):
            raise InvalidContentError(f"the pool has only {len(images)} images in {group!r}, {count} were asked for")
        with self._drawing:
            fresh = [image for image in images if image not in recent]
            drawn = _random.sample(fresh, min(count, len(fresh)))
            # More than half of the group at once: the oldest of the recent ones fill up.
            drawn += [image for image in list(recent) if image not in drawn][: count - len(drawn)]
            recent.extend(drawn)
        return drawn

    def any_group(self) -> str:
        """A group, each as likely as its share of the images."""
        groups = list(self._groups)
        return _random.choices(groups, [len(self._groups[group]) for group in groups])[0]


def _read_index(folder: Path) -> tuple[list[PoolImage], str]:
    """The images, and whom to thank for them."""
    try:
        index = json.loads((folder / INDEX).read_bytes())
        images = [PoolImage(folder / entry["file"], entry["group"]) for entry in index["images"]]
        attribution = str(index.get("attribution") or "Not stated.")
    except FileNotFoundError:
        raise SpecError(f"{folder} is no pool: it has no {INDEX}; make one with `marserve pool build`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{folder / INDEX} is not a pool's index: {error!r}") from None
    for image in images:
        if not isinstance(image.group, str) or image.path.parent != folder or not image.path.is_file():
            raise SpecError(f"{folder / INDEX} names {image.path.name}, which is not a file beside it")
    if repeated := [path.name for path, count in Counter(image.path for image in images).items() if count > 1]:
        raise SpecError(f"{folder / INDEX} names {repeated[0]} more than once")
    return images, attribution
