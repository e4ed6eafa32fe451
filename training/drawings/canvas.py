"""Shapes on a picture: float32 (side, side, 3), RGB from 0 to 1; masks are float32 (side, side) from 0 to 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256  # pixels; what is written is half as wide
Picture = NDArray[Any]
Mask = NDArray[Any]
Colour = Sequence[float] | NDArray[Any]  # three, red first
Ring = tuple[float, float, float, float]  # an upright ellipse: x and y of its centre, its half axes, in pixels

_SHIFT = 4  # bits of a pixel's fraction in OpenCV's coordinates


def _fixed(*values: float) -> tuple[int, ...]:
    return tuple(round(value * (1 << _SHIFT)) for value in values)


def _empty() -> NDArray[np.uint8]:
    return np.zeros((SIDE, SIDE), np.uint8)


def _mask(drawn: NDArray[np.uint8]) -> Mask:
    return drawn.astype(np.float32) / 255


def ellipse(ring: Ring, thickness: int = -1, start: float = 0, end: float = 360) -> Mask:
    """Filled where `thickness` is negative; the angles are in degrees, clockwise from the right."""
    drawn = _empty()
    x, y, across, down = ring
    axes = _fixed(max(across, 0.5), max(down, 0.5))
    cv2.ellipse(drawn, _fixed(x, y), axes, 0, start, end, 255, thickness, cv2.LINE_AA, _SHIFT)
    return _mask(drawn)


def body(rings: Iterable[Ring]) -> Mask:
    """All that a stack of rings covers; near ones must overlap."""
    drawn = _empty()
    for x, y, across, down in rings:
        cv2.ellipse(drawn, _fixed(x, y), _fixed(max(across, 0.5), max(down, 0.5)), 0, 0, 360, 255, -1, 8, _SHIFT)
    return cv2.GaussianBlur(_mask(drawn), (0, 0), 0.7)


def dots(places: Iterable[tuple[float, float]], radius: float) -> Mask:
    drawn = _empty()
    for place in places:
        cv2.circle(drawn, _fixed(*place), round(radius * (1 << _SHIFT)), 255, -1, cv2.LINE_AA, _SHIFT)
    return _mask(drawn)


def polygon(points: Sequence[tuple[float, float]]) -> Mask:
    drawn = _empty()
    cv2.fillPoly(drawn, [np.array([_fixed(*point) for point in points], np.int32)], 255, cv2.LINE_AA, _SHIFT)
    return _mask(drawn)


def line(points: Sequence[tuple[float, float]], thickness: float) -> Mask:
    drawn = _empty()
    pixels = np.array([_fixed(*point) for point in points], np.int32)
    cv2.polylines(drawn, [pixels], False, 255, max(1, round(thickness)), cv2.LINE_AA, _SHIFT)
    return _mask(drawn)


def soft(mask: Mask, pixels: float) -> Mask:
    return cv2.GaussianBlur(mask, (0, 0), max(pixels, 0.1))


def lay(picture: Picture, mask: Mask, colour: Colour, opacity: float = 1.0) -> None:
    """Put a colour, or another picture, where the mask is."""
    box = _box(mask)
    above = np.asarray(colour, np.float32)
    above = above[box] if above.ndim == 3 else above
    picture[box] += (mask[box] * np.float32(opacity))[..., None] * (above - picture[box])


def shade(picture: Picture, mask: Mask, factor: float | Mask) -> None:
    """Multiply the light where the mask is."""
    box = _box(mask)
    light = factor[box] if isinstance(factor, np.ndarray) else np.float32(factor)
    picture[box] *= (1 + mask[box] * (light - 1))[..., None]


def _box(mask: Mask) -> tuple[slice, slice]:
    """All that is not 0 lies in there: most shapes are a small part of the picture."""
    x, y, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
    return slice(y, y + height), slice(x, x + width)


def across(mask: Mask) -> Mask:
    """From -1 on the left edge of each row of a shape to 1 on its right edge."""
    inside = mask > 0.5
    left = inside.argmax(axis=1)[:, None]
    right = SIDE - 1 - inside[:, ::-1].argmax(axis=1)[:, None]
    place = (2 * np.arange(SIDE)[None, :] - left - right) / np.maximum(right - left, 1)
    return np.asarray(np.clip(place, -1, 1), np.float32)


def down(mask: Mask) -> Mask:
    """From 0 at the top of a shape to 1 at its bottom."""
    rows = np.flatnonzero((mask > 0.5).any(axis=1))
    first, last = (rows[0], rows[-1]) if len(rows) else (0, 1)
    place = np.clip((np.arange(SIDE) - first) / max(last - first, 1), 0, 1)
    return np.broadcast_to(place[:, None].astype(np.float32), (SIDE, SIDE))


def noise(random: np.random.Generator, cells: int) -> Mask:
    """Smooth random patches, about so many to a side."""
    coarse = random.random((cells, cells), np.float32)
    return np.clip(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), 0, 1)


def paint(random: np.random.Generator) -> Colour:
    """Any colour, often nearly white."""
    if random.random() < 0.4:
        return tuple(random.uniform(0.82, 0.97) * np.array([1, 0.99, 0.96]))
    hue, saturation, value = random.uniform(0, 360), random.uniform(0.2, 0.85), random.uniform(0.2, 0.95)
    pixel = np.array([[[hue, saturation, value]]], np.float32)
    return tuple(map(float, cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]))
