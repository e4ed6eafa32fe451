"""A table, the wall behind it, and what lies about."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from training.drawings.canvas import SIDE, Picture, down, ellipse, lay, line, noise, paint, polygon, shade, soft

Random = np.random.Generator


def ground(tilt: float, random: Random, unseen: bool) -> Picture:
    """A table, and a wall behind it where the camera looks flat."""
    picture = np.empty((SIDE, SIDE, 3), np.float32)
    picture[:] = _tone(random)
    if random.random() < 0.5:
        shade(picture, np.ones((SIDE, SIDE), np.float32), 0.85 + 0.3 * noise(random, int(random.integers(2, 6))))
    if tilt < 28 and random.random() < 0.5:  # things far behind, out of focus
        for _ in range(random.integers(2, 7)):
            spot = (*random.uniform(0, SIDE, 2), *random.uniform(15, 70, 2))
            lay(picture, soft(ellipse(spot), random.uniform(6, 16)), _tone(random), random.uniform(0.3, 0.9))
    edge = 0.0 if tilt > 28 else SIDE * random.uniform(0.45, 0.8)
    table = polygon([(-9, edge + random.uniform(-6, 6) * (edge > 0)), (SIDE, edge), (SIDE, SIDE), (-9, SIDE)])
    lay(picture, table, _table(random, unseen))
    light = random.uniform(0.6, 1.0), random.uniform(0.95, 1.25)
    slope = np.linspace(*light, SIDE, dtype=np.float32)
    ramp = np.broadcast_to(slope[None, :] if random.random() < 0.6 else slope[::-1, None], (SIDE, SIDE))
    shade(picture, np.ones((SIDE, SIDE), np.float32), ramp)
    return picture


def _table(random: Random, unseen: bool) -> Picture:
    picture = np.empty((SIDE, SIDE, 3), np.float32)
    picture[:] = first = _tone(random)
    if unseen:  # a chequered cloth
        cell = int(random.integers(14, 40))
        rows, columns = np.indices((SIDE, SIDE)) // cell
        lay(picture, ((rows + columns) % 2).astype(np.float32), _tone(random))
        return picture
    kind = random.random()
    if kind < 0.4:  # wood
        grain = cv2.resize(random.random((int(random.integers(30, 120)), 5), np.float32), (SIDE, SIDE))
        wood = np.multiply((0.55, 0.37, 0.22), random.uniform(0.5, 1.5))
        picture[:] = np.clip(wood, 0, 0.95)
        shade(picture, np.ones((SIDE, SIDE), np.float32), 0.75 + 0.5 * grain)
        for y in range(int(random.integers(0, 80)), SIDE, 80):
            shade(picture, line([(0, y), (SIDE, y + random.uniform(-4, 4))], 2), 0.6)
    elif kind < 0.6:  # stone
        shade(picture, np.ones((SIDE, SIDE), np.float32), 0.8 + 0.4 * noise(random, 90))
    elif kind < 0.75:  # tiles
        step = int(random.integers(50, 110))
        for at in range(int(random.integers(0, step)), SIDE, step):
            for points in ([(at, 0), (at, SIDE)], [(0, at), (SIDE, at)]):
                lay(picture, line(points, 3), np.multiply(first, 0.6))
    return picture


def things(picture: Picture, random: Random, most: int = 3) -> None:
    """Other things on the table, mostly at the picture's edge."""
    for _ in range(random.integers(0, most)):
        angle, away = random.uniform(0, 2 * math.pi), SIDE * random.uniform(0.4, 0.62)
        x, y = SIDE / 2 + away * math.cos(angle), SIDE / 2 + away * math.sin(angle)
        size = random.uniform(20, 60)
        THINGS[random.integers(len(THINGS))](picture, x, y, size, random)


def _plate(picture: Picture, x: float, y: float, size: float, random: Random) -> None:
    flat = random.uniform(0.3, 1)
    shade(picture, soft(ellipse((x + 4, y + 5, size * 1.3, size * 1.3 * flat)), 6), 0.6)
    colour = paint(random)
    lay(picture, ellipse((x, y, size * 1.3, size * 1.3 * flat)), colour)
    lay(picture, ellipse((x, y, size * 0.9, size * 0.9 * flat), 2), np.multiply(colour, 0.75))


def _box(picture: Picture, x: float, y: float, size: float, random: Random) -> None:
    turn, long = random.uniform(0, math.pi), random.uniform(0.3, 0.9)
    across, along = (math.cos(turn), math.sin(turn)), (-math.sin(turn) * long, math.cos(turn) * long)
    corners = [
        (x + size * (a * across[0] + b * along[0]), y + size * (a * across[1] + b * along[1]))
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    shade(picture, soft(polygon([(px + 4, py + 5) for px, py in corners]), 5), 0.6)
    lay(picture, polygon(corners), paint(random))


def _spoon(picture: Picture, x: float, y: float, size: float, random: Random) -> None:
    turn = random.uniform(0, math.pi)
    end = (x + 2 * size * math.cos(turn), y + 2 * size * math.sin(turn))
    lay(picture, line([(x, y), end], 5), (0.7, 0.71, 0.73))
    lay(picture, ellipse((x, y, 12, 9)), (0.78, 0.79, 0.8))


def _fruit(picture: Picture, x: float, y: float, size: float, random: Random) -> None:
    ball = ellipse((x, y, size * 0.6, size * 0.57))
    shade(picture, soft(ellipse((x + 5, y + size * 0.4, size * 0.6, size * 0.3)), 6), 0.6)
    lay(picture, ball, ((0.85, 0.15, 0.1), (0.95, 0.6, 0.1), (0.6, 0.75, 0.2))[random.integers(3)])
    shade(picture, ball, 1.15 - 0.5 * down(ball))


THINGS: tuple[Callable[[Picture, float, float, float, Random], None], ...] = (_plate, _box, _spoon, _fruit)


def _tone(random: Random) -> Any:
    """Of a wall or a table: mostly grey or brown."""
    return np.clip(random.uniform(0.15, 0.92) + random.uniform(-0.12, 0.12, 3), 0.02, 0.98)
