"""What is drawn in a vessel, and the vessel around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from training.drawings.canvas import (
    SIDE,
    Colour,
    Mask,
    Picture,
    Ring,
    across,
    body,
    dots,
    down,
    ellipse,
    lay,
    line,
    noise,
    paint,
    polygon,
    shade,
    soft,
)
from training.drawings.vessels import WALL, Placed

_CREAM = (0.95, 0.90, 0.80)


@dataclass(frozen=True, slots=True)
class Drink:
    colour: Colour
    opacity: float  # in a glass
    foam: float = 0.0  # how often it has some
    ice: float = 0.0


DRINKS = (
    Drink((0.80, 0.88, 0.92), 0.22, ice=0.4),  # water
    Drink((0.95, 0.55, 0.10), 0.92, ice=0.3),  # orange juice
    Drink((0.85, 0.72, 0.25), 0.65, ice=0.3),  # apple juice
    Drink((0.22, 0.09, 0.05), 0.90, ice=0.5),  # cola
    Drink((0.82, 0.55, 0.12), 0.75, foam=0.9),  # beer
    Drink((0.20, 0.10, 0.06), 0.97, foam=0.3),  # coffee
    Drink((0.58, 0.40, 0.26), 1.00, foam=0.5),  # milk coffee
    Drink((0.60, 0.28, 0.08), 0.75, ice=0.2),  # tea
    Drink((0.94, 0.93, 0.88), 0.97),  # milk
    Drink((0.75, 0.10, 0.12), 0.75, ice=0.4),  # cherry
)
UNSEEN_DRINKS = (
    Drink((0.38, 0.03, 0.12), 0.92),  # red wine
    Drink((0.30, 0.62, 0.20), 0.90, ice=0.3),  # green smoothie, woodruff
    Drink((0.95, 0.62, 0.68), 0.90),  # strawberry milk
)


@dataclass(frozen=True, slots=True)
class Filling:
    drink: Drink
    level: float  # height of the surface, of the vessel


def draw_glass(picture: Picture, glass: Placed, filling: Filling | None, random: np.random.Generator) -> None:
    """One that is seen through."""
    whole = body(glass.rings())
    floor = glass.vessel.floor
    tint = np.array([0.93, 0.95, 0.95]) + random.uniform(-0.04, 0.03, 3)
    if random.random() < 0.15:  # coloured glass
        tint = tint - random.uniform(0, 0.3, 3)
    if glass.vessel.handle:
        _handle(picture, glass, (0.85, 0.9, 0.92), 0.45)
    shade(picture, whole, random.uniform(0.88, 1.0))
    lay(picture, whole, tint * picture, 1.0)
    _edges(picture, whole, random.uniform(0.25, 0.5))
    base = body(glass.rings(0, floor)) if floor < 0.2 else ellipse(glass.ring(floor))
    lay(picture, base, (0.9, 0.94, 0.95), random.uniform(0.1, 0.3))
    lay(picture, ellipse(glass.ring(floor, WALL), 2), (0.35, 0.38, 0.4), random.uniform(0.3, 0.55))
    lay(picture, ellipse(glass.rim, 2, 180, 360), (0.95, 0.97, 0.98), 0.6)
    straw = _straw(glass, random) if random.random() < 0.25 and glass.tilt < 60 else None
    if straw:
        _draw_straw(picture, straw)
    if filling:
        _pour(picture, glass, filling, random)
        if straw:
            above = 1 - body(glass.rings(floor, filling.level, WALL))
            _draw_straw(picture, straw, np.maximum(above, 0.25 * (1 - filling.drink.opacity)))
    _shine(picture, glass, whole, random)
    lay(picture, ellipse(glass.rim, 3), (0.3, 0.33, 0.35), random.uniform(0.25, 0.45))
    lay(picture, ellipse(glass.rim, 1), (0.98, 0.99, 1.0), random.uniform(0.5, 0.9))
    if random.random() < 0.12 and glass.tilt < 60:
        _slice(picture, glass, random)


def draw_cup(picture: Picture, cup: Placed, filling: Filling | None, random: np.random.Generator) -> None:
    """One that only its opening shows the inside of."""
    colour = paint(random)
    whole = body(cup.rings())
    if cup.vessel.handle:
        _handle(picture, cup, colour, 1.0)
    lay(picture, whole, colour)
    _pattern(picture, cup, whole, random)
    light = random.uniform(-0.5, 0.5)
    shade(picture, whole, 1.05 - 0.4 * np.abs(across(whole) - light) ** 1.8)
    lay(picture, ellipse(cup.rim), np.clip(np.multiply(colour, 1.15) + 0.08, 0, 1))
    inner = colour if random.random() < 0.35 else (0.93, 0.92, 0.89)
    opening = ellipse(cup.inside)
    lay(picture, opening, inner)
    # The wall that is seen inside is the far one, and the side away from the light is darker.
    shade(picture, opening, 0.88 + random.uniform(-0.2, 0.2) * across(opening) - 0.28 * (1 - down(opening)))
    ground = ellipse(cup.ring(cup.vessel.floor, WALL)) * opening
    shade(picture, soft(ground, 5) * opening, random.uniform(0.72, 0.85))
    lay(picture, ground, np.multiply(inner, random.uniform(0.72, 0.92)), 0.9)
    if not filling:
        shade(picture, ground, 1.03 + random.uniform(-0.12, 0.12) * across(ground))
        edge = ellipse(cup.ring(cup.vessel.floor, WALL), 2)
        shade(picture, edge * opening, 0.82)
    else:
        _fill(picture, cup, filling, opening, random)
    lay(picture, ellipse(cup.rim, 1), (1, 1, 1), 0.35)


def visible(cup: Placed, level: float) -> float:
    """How much of the surface at that height is seen through the opening of a cup."""
    surface = ellipse(cup.ring(level, WALL))
    return float((surface * ellipse(cup.inside)).sum() / max(surface.sum(), 1))


def _pour(picture: Picture, glass: Placed, filling: Filling, random: np.random.Generator) -> None:
    drink, floor = filling.drink, glass.vessel.floor
    volume = body(glass.rings(floor, filling.level, WALL))
    colour = _varied(drink.colour, random)
    behind = _lens(picture, volume, glass.x)
    lay(picture, volume, behind, 0.8)
    depth = down(volume)
    lay(picture, volume, colour, float(np.clip(drink.opacity + random.uniform(-0.08, 0.03), 0.12, 1)))
    shade(picture, volume, 1.08 - 0.25 * np.abs(across(volume)) ** 3 - 0.15 * depth)
    surface = glass.ring(filling.level, WALL)
    top = ellipse(surface)
    has_foam = random.random() < drink.foam
    if has_foam:
        high = min(1.0, filling.level + random.uniform(0.03, 0.12))
        head = body(glass.rings(filling.level - 0.01, high, WALL))
        lay(picture, head, _varied(_CREAM, random), 0.97)
        shade(picture, head, 1.04 - 0.2 * np.abs(across(head)) ** 3)
        surface = glass.ring(high, WALL)
        top = ellipse(surface)
        lay(picture, top, _varied((0.97, 0.94, 0.86), random))
        shade(picture, top, 0.94 + 0.12 * noise(random, 40))
    else:
        lay(picture, top, np.clip(np.multiply(colour, 1.12) + 0.05, 0, 1), 0.35 + 0.5 * drink.opacity)
        lay(picture, ellipse(surface, 2), np.multiply(colour, 0.55), 0.5)
        lay(picture, ellipse(surface, 1, 180, 360), (1, 1, 1), 0.45)
        if random.random() < drink.ice:
            _ice(picture, surface, glass.height * 0.13, random)
        if random.random() < 0.3:
            _bubbles(picture, volume, random)
    _glint(picture, surface, top, random)


def _fill(picture: Picture, cup: Placed, filling: Filling, opening: Mask, random: np.random.Generator) -> None:
    ring = cup.ring(filling.level, WALL)
    surface = ellipse(ring) * opening
    colour = _varied(filling.drink.colour, random)
    thin = filling.drink.opacity < 0.5  # water: its ground is seen
    lay(picture, surface, colour, 0.45 if thin else 1.0)
    shade(picture, surface, 0.95 + random.uniform(-0.1, 0.1) * across(surface) + 0.1 * down(surface))
    lay(picture, ellipse(ring, 3) * opening, np.clip(np.multiply(colour, 1.3) + 0.1, 0, 1), 0.6)
    if random.random() < filling.drink.foam:
        x, y, wide, flat = ring
        patch = (
            ellipse((x + random.uniform(-0.2, 0.2) * wide, y, wide * random.uniform(0.3, 0.85), flat * 0.7)) * opening
        )
        lay(picture, soft(patch, 2) * (0.6 + 0.4 * noise(random, 24)), _varied(_CREAM, random), 0.85)
    elif random.random() < filling.drink.ice:
        _ice(picture, ring, cup.height * 0.15, random)
    _glint(picture, ring, surface, random)
    if thin:
        _glint(picture, ring, surface, random)


def _glint(picture: Picture, ring: Ring, mask: Mask, random: np.random.Generator) -> None:
    """The light or a window in the surface."""
    x, y, wide, flat = ring
    angle = random.uniform(0, 2 * math.pi)
    spot = (
        x + 0.5 * wide * math.cos(angle),
        y + 0.5 * flat * math.sin(angle),
        wide * random.uniform(0.08, 0.3),
        flat * 0.14,
    )
    lay(picture, soft(ellipse(spot), 1.5) * mask, (1, 1, 1), random.uniform(0.25, 0.8))


def _ice(picture: Picture, ring: Ring, size: float, random: np.random.Generator) -> None:
    x, y, wide, flat = ring
    for _ in range(random.integers(1, 4)):
        cx, cy = x + random.uniform(-0.55, 0.55) * wide, y + random.uniform(-0.4, 0.4) * flat + 0.15 * size
        turn, half = random.uniform(0, math.pi / 2), size * random.uniform(0.6, 1.0)
        corners = [
            (cx + half * math.cos(turn + k * math.pi / 2), cy + half * math.sin(turn + k * math.pi / 2))
            for k in range(4)
        ]
        lay(picture, polygon(corners), (0.92, 0.96, 0.98), random.uniform(0.3, 0.5))
        lay(picture, line([*corners, corners[0]], 1.5), (1, 1, 1), 0.6)


def _bubbles(picture: Picture, volume: Mask, random: np.random.Generator) -> None:
    rows, columns = np.nonzero(volume > 0.9)
    if not len(rows):
        return
    chosen = random.integers(0, len(rows), 25)
    lay(picture, dots(zip(columns[chosen], rows[chosen], strict=True), random.uniform(0.7, 1.8)), (1, 1, 1), 0.4)


def _straw(glass: Placed, random: np.random.Generator) -> tuple[list[tuple[float, float]], float, Colour]:
    x, y, wide, _ = glass.inside
    side = random.choice([-1, 1])
    foot = glass.ring(glass.vessel.floor, WALL)
    low = (glass.x - side * 0.5 * foot[2], foot[1])
    rest = (x + side * 0.85 * wide, y)
    length = random.uniform(0.2, 0.5)
    end = (rest[0] + length * (rest[0] - low[0]), rest[1] + length * (rest[1] - low[1]))
    return [low, rest, end], glass.height * random.uniform(0.025, 0.05), tuple(random.uniform(0.1, 1, 3))


def _draw_straw(
    picture: Picture, straw: tuple[list[tuple[float, float]], float, Colour], where: Mask | float = 1.0
) -> None:
    points, thickness, colour = straw
    lay(picture, line(points, thickness) * where, np.multiply(colour, 0.8))
    lay(picture, line(points, thickness / 3) * where, np.clip(np.multiply(colour, 1.2), 0, 1))


def _slice(picture: Picture, glass: Placed, random: np.random.Generator) -> None:
    """Of a lemon, on the rim."""
    x, y, wide, _ = glass.rim
    spot = (x + random.choice([-1, 1]) * wide, y, 0.11 * glass.height, 0.11 * glass.height)
    lay(picture, ellipse(spot), (0.92, 0.75, 0.15))
    lay(picture, ellipse((*spot[:2], spot[2] * 0.8, spot[3] * 0.8)), (0.97, 0.92, 0.55))


def _shine(picture: Picture, glass: Placed, whole: Mask, random: np.random.Generator) -> None:
    """Streaks of light down the front of a glass; fewer are seen from above."""
    place = across(whole)
    for _ in range(random.integers(1, 4)):
        centre, width = random.uniform(-0.85, 0.85), random.uniform(0.03, 0.12)
        streak = np.exp(-(((place - centre) / width) ** 2)) * whole * (whole > 0.5)
        lay(picture, streak, (1, 1, 1), random.uniform(0.15, 0.5) * math.cos(math.radians(glass.tilt)))


def _edges(picture: Picture, whole: Mask, strength: float) -> None:
    """Glass is darker where the look goes along it."""
    shade(picture, whole, 1 - strength * np.abs(across(whole)) ** 8)
    outline = np.abs(cv2.Laplacian(soft(whole, 1.2), cv2.CV_32F))
    lay(picture, np.clip(outline * 3, 0, 1), (0.25, 0.28, 0.3), 0.5)


def _lens(picture: Picture, volume: Mask, x: float) -> Picture:
    """What is behind a filled glass, as its drink bends it: mirrored and drawn together."""
    columns, rows = np.meshgrid(np.arange(SIDE, dtype=np.float32), np.arange(SIDE, dtype=np.float32))
    bent = np.where(volume > 0, x - 1.2 * (columns - x), columns).astype(np.float32)
    return np.asarray(cv2.remap(picture, bent, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def _handle(picture: Picture, cup: Placed, colour: Colour, opacity: float) -> None:
    x, y, wide, _ = cup.ring(0.52)
    upright = 0.28 * cup.height * math.cos(math.radians(cup.tilt))
    thick = round(0.085 * cup.height)
    ring = (x + wide, y, 0.24 * cup.height, max(upright, 1))
    if upright < 0.1 * cup.height:
        lay(
            picture,
            line([(x + wide * 0.9, y), (x + wide + 0.26 * cup.height, y)], thick),
            np.multiply(colour, 0.85),
            opacity,
        )
        return
    lay(picture, ellipse(ring, thick), np.multiply(colour, 0.8), opacity)
    lay(picture, ellipse(ring, max(1, thick // 3)), np.clip(np.multiply(colour, 1.1), 0, 1), 0.5 * opacity)


def _pattern(picture: Picture, cup: Placed, whole: Mask, random: np.random.Generator) -> None:
    kind = random.random()
    if kind < 0.25:  # a band
        low = random.uniform(0.1, 0.6)
        band = body(cup.rings(low, low + random.uniform(0.1, 0.3)))
        lay(picture, band * whole, paint(random))
    elif kind < 0.4:  # a mark
        x, y, wide, _ = cup.ring(0.5)
        mark = ellipse(
            (x + random.uniform(-0.3, 0.3) * wide, y + 0.15 * cup.height, 0.14 * cup.height, 0.14 * cup.height)
        )
        lay(picture, mark * whole, paint(random))


def _varied(colour: Colour, random: np.random.Generator) -> Colour:
    return tuple(np.clip(np.multiply(colour, random.uniform(0.8, 1.15)) + random.uniform(-0.05, 0.05, 3), 0, 1))
