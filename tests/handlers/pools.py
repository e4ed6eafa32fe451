"""Small pools of generated drawings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from handlers.pool import INDEX
from tests.images import encode

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "grey": (128, 128, 128)}


def write_pool(folder: Path, counts: Mapping[str, int], side: int = 32) -> Path:
    """Discs in their group's colour, named so that a leak of the name would be seen; EXIF says what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for group, count in counts.items():
        for number in range(count):
            pixels = np.full((side, side, 3), 235, np.uint8)
            radius = side // 3 + number % 3
            cv2.circle(pixels, (side // 2, side // 2), radius, COLOURS[group], thickness=-1)
            name = f"secretname-{group}-{number}.jpg"
            (folder / name).write_bytes(encode(pixels, "JPEG", orientation=1, comment=b"secretcomment"))
            entries.append({"file": name, "group": group})
    write_index(folder, {"attribution": "Drawn here.", "images": entries})
    return folder


def write_index(folder: Path, index: object) -> None:
    (folder / INDEX).write_text(json.dumps(index))
