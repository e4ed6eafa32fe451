"""Faces in a photograph: where they are, and how to hide them. Knows nothing of requests.

Found by a cascade of boosted Haar features (Viola & Jones 2001; Lienhart & Maydt 2002), as OpenCV has it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from handlers.errors import SpecError
from handlers.image import Pixels

MOST_SEARCHED = 800 * 600  # pixels: a larger picture is scaled down to them, or one request would take seconds
SMALLEST = 20  # pixels of a face's side, in what is searched: the cascade's own window
# Steps of the size, and windows that must agree. Chosen on four photographs: the model's card says what that is worth.
_STEP, _AGREEING = 1.1, 2

CELLS = 16  # of a mosaic, in each direction, at most
SMALLEST_CELL = 16  # pixels: 16 x 16 cells of a face of 40 pixels would show it
_BEYOND = 8  # a mosaic reaches an eighth of the box over each side: hair, chin and ears tell people apart too


class Box(NamedTuple):
    """In pixels of the upright picture, from its top left corner."""

    x: int
    y: int
    width: int
    height: int


class Finder:
    """Of any number of threads."""

    def __init__(self, cascade: Path) -> None:
        """From a file of OpenCV's. Raises SpecError."""
        self._cascade = cascade
        self._own = threading.local()  # a classifier keeps the picture that it searches: each thread has another
        self._classifier()

    def find(self, pixels: Pixels) -> list[Box]:
        """(H, W, 3) RGB -> the faces, the largest first."""
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        scale = min(1.0, math.sqrt(MOST_SEARCHED / (width * height)))
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        # Equal shares of dark and light: without, it takes a finer step, and twice the time, to find as many.
        found = self._classifier().detectMultiScale(
            cv2.equalizeHist(grey), _STEP, _AGREEING, minSize=(SMALLEST, SMALLEST)
        )
        across, down = width / grey.shape[1], height / grey.shape[0]
        boxes = [_scaled(box, across, down) for box in np.asarray(found).tolist()]
        return sorted(boxes, key=lambda box: (-box.width * box.height, box))

    def _classifier(self) -> cv2.CascadeClassifier:
        known: cv2.CascadeClassifier | None = getattr(self._own, "classifier", None)
        if known is None:
            try:
                known = cv2.CascadeClassifier(str(self._cascade))
            except (cv2.error, SystemError):  # the latter where the file is no XML at all
                known = None
            if known is None or known.empty():
                raise SpecError(f"handler.cascade: {self._cascade.name} is no cascade of OpenCV's")
            self._own.classifier = known
        return known


def mosaic(pixels: Pixels, boxes: Sequence[Box]) -> Pixels:
    """A copy of the picture, (H, W, 3), with the faces in these boxes as cells of one colour each."""
    hidden = pixels.copy()
    for box in boxes:
        part = hidden[_grown(box.y, box.height), _grown(box.x, box.width)]
        height, width = part.shape[:2]
        cells = [max(1, min(CELLS, extent // SMALLEST_CELL)) for extent in (width, height)]
        means = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
        part[:] = cv2.resize(means, (width, height), interpolation=cv2.INTER_NEAREST)
    return hidden


def _grown(start: int, extent: int) -> slice:
    """Numpy itself ends a slice where the picture does."""
    margin = math.ceil(extent / _BEYOND)
    return slice(max(0, start - margin), start + extent + margin)


def _scaled(box: Sequence[int], across: float, down: float) -> Box:
    x, y, width, height = box
    return Box(round(x * across), round(y * down), round(width * across), round(height * down))
