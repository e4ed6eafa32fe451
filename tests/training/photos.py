"""Small generated photographs for the tests of the recipes."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CLASSES = {"animal": ("cat", "dog"), "object": ("cup", "key")}


def encoded(shape: str, colour: tuple[int, int, int], side: tuple[int, int], kind: str, seed: int) -> bytes:
    """A `shape` (disc or box) of `colour` on a noisy ground, `side` (height, width), as a file of Pillow's `kind`."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (*side, 3), dtype=np.uint8)
    y, x = (int(length * random.uniform(0.4, 0.6)) for length in side)
    reach = min(side) // 3
    if shape == "disc":
        cv2.circle(pixels, (x, y), reach, colour, thickness=-1)
    else:
        cv2.rectangle(pixels, (x - reach, y - reach), (x + reach, y + reach), colour, thickness=-1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


def write_photos(data_dir: Path, per_class: int = 12) -> Path:
    """Red discs (cats, dogs) and blue boxes (cups, keys) of 40x40 pixels in the two-level layout."""
    looks = {"animal": ("disc", (220, 40, 40)), "object": ("box", (40, 40, 220))}
    for group, names in CLASSES.items():
        shape, colour = looks[group]
        for name in names:
            folder = data_dir / group / name
            folder.mkdir(parents=True)
            for number in range(1, per_class + 1):
                data = encoded(shape, colour, (40, 40), "PNG", seed=number + 100 * len(name) + ord(name[0]))
                (folder / f"{name}_{number}.png").write_bytes(data)
    return data_dir
