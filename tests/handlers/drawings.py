"""Figures that are drawn as a hand might draw them: a 7 on any ground, of any size, in any place."""

from __future__ import annotations

import cv2
import numpy as np

from handlers.image import Pixels

INK, PAPER = (40, 50, 100), (225, 222, 215)  # RGB


def seven(
    side: int = 300,
    place: tuple[int, int] = (90, 80),
    height: int = 120,
    ink: tuple[int, int, int] = INK,
    ground: tuple[int, int, int] = PAPER,
) -> Pixels:
    """A 7, `height` pixels tall and two thirds as wide, its upper left corner at `place` (x, y); (side, side, 3)."""
    pixels = np.full((side, side, 3), ground, np.uint8)
    width, pen = height * 2 // 3, max(1, height // 9)
    x, y = place
    corners = np.array([(x, y), (x + width, y), (x + width // 3, y + height)], np.int32)
    cv2.polylines(pixels, [corners], False, ink, pen, cv2.LINE_AA)
    return pixels
