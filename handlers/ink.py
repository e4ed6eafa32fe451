"""Handwriting of any size and on any ground -> white ink on black, as MNIST's makers prepared theirs.

They scaled a digit into a box of 20 by 20 pixels, and put the centre of its mass into the centre of 28 by 28.
Source: LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from handlers import image
from handlers.errors import InvalidContentError

Grey = NDArray[np.uint8]  # (H, W)

WORKING_SIDE = 140  # of the longer side, in pixels: ink is looked for at this size
MIN_CONTRAST = 40  # grey levels between ink and ground, of 255
_BOX = 20 / 28  # of the output's side
_LEAST_PART = 0.05  # of the largest stroke's area: what is smaller is dust, or noise


def load(data: bytes, size: int, limits: image.Limits = image.Limits()) -> image.Pixels:
    """Decode, then `centre`: what a network of input size `size` sees, (size, size, 3). Raises RequestError."""
    return centre(image.decode(data, limits, shorter_side=WORKING_SIDE), size)


def centre(pixels: image.Pixels, size: int) -> image.Pixels:
    """Ink as light as 255 on 0, its longer side 20/28 of `size`: (H, W, 3) -> (size, size, 3), all channels equal.

    Dark ink on a light ground is told from light on dark by the border. Raises InvalidContentError without any ink.
    """
    ink = _only_strokes(_ink(_shrink(pixels)))
    top, left, height, width = _bounds(ink)
    box = max(1, round(_BOX * size))
    scale = box / max(height, width)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    sides = max(1, round(width * scale)), max(1, round(height * scale))
    cut = cv2.resize(ink[top : top + height, left : left + width], sides, interpolation=how)
    strongest = np.percentile(cut[cut > cut.max() / 2], 75)  # the middle of a stroke: a thin one pales when it shrinks
    cut = np.minimum(cut * (255 / strongest), 255)
    canvas = np.zeros((size, size), np.float32)
    top, left = (_start(cut.sum(axis=axis), size) for axis in (1, 0))
    canvas[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return np.repeat(canvas.round().astype(np.uint8)[:, :, None], 3, axis=2)


def _shrink(pixels: image.Pixels) -> Grey:
    height, width = pixels.shape[:2]
    scale = WORKING_SIDE / max(height, width)
    if scale < 1:
        sides = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, sides, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _ink(grey: Grey) -> Grey:
    """How much every pixel differs from the ground around it, in the direction in which ink does."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    middle, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    dark_ink = np.median(border) > middle
    # What is narrower than half of the picture stands out, a shadow that lies across it does not.
    side = max(3, max(grey.shape) // 2) | 1
    window = cv2.getStructuringElement(cv2.MORPH_RECT, (side, side))
    ink = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT if dark_ink else cv2.MORPH_TOPHAT, window)
    if ink.max() < MIN_CONTRAST:
        raise InvalidContentError("there is no ink in this image: send one digit, dark on light or light on dark")
    return np.asarray(ink, np.uint8)


def _only_strokes(ink: Grey) -> Grey:
    """The strokes with the soft edges that touch them; all else is 0. A shadow or a table's edge runs off the picture,
    so what reaches the border counts only where everything does."""
    level, core = cv2.threshold(ink, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # the ground
    inside = areas.copy()
    inside[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = 0
    if inside.max() >= _LEAST_PART * areas.max():
        areas = inside
    keep = areas >= max(1, _LEAST_PART * areas.max())
    near = cv2.dilate(keep[labels].astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.where((near > 0) & (ink > level / 2), ink, 0)


def _bounds(ink: Grey) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is not 0."""
    left, top, width, height = cv2.boundingRect(ink)
    return top, left, height, width


def _start(mass: NDArray[np.float32], size: int) -> int:
    """Where a profile begins, so that the centre of its mass comes to the middle; inside of `size` in any case."""
    middle = float((mass * (np.arange(len(mass)) + 0.5)).sum() / mass.sum())
    return int(np.clip(round(size / 2 - middle), 0, size - len(mass)))
