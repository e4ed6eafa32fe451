"""A table, what stands on it, and the camera: label and random numbers -> uint8 (side, side, 3), RGB."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from training.drawings.canvas import SIDE, Picture, body, ellipse, lay, line, noise, paint, polygon, shade, soft
from training.drawings.drinks import DRINKS, UNSEEN_DRINKS, Filling, draw_cup, draw_glass, visible
from training.drawings.grounds import THINGS, Random, ground, things
from training.drawings.vessels import UNSEEN_VESSELS, VESSELS, Placed, Vessel, place

Label = Literal["empty", "with_beverage", "unclear"]
LABELS: tuple[Label, ...] = get_args(Label)
WRITTEN_SIDE = SIDE // 2


def draw(label: Label, random: Random, unseen: bool = False) -> NDArray[np.uint8]:
    """With `unseen`, of vessels, drinks and grounds that are in no other drawing."""
    if label == "unclear":
        names = list(UNCLEAR)
        picture = UNCLEAR[names[random.integers(len(names))]](random, unseen)
    else:
        picture = _camera(_scene(label == "with_beverage", random, unseen), random)
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _scene(filled: bool, random: Random, unseen: bool, size: tuple[float, float] = (0.5, 0.88)) -> Picture:
    vessels = UNSEEN_VESSELS if unseen else VESSELS
    vessel = vessels[random.integers(len(vessels))]
    placed, filling = _placed(vessel, filled, random, unseen, size)
    picture = ground(placed.tilt, random, unseen)
    things(picture, random)
    _stand(picture, placed, filling, random)
    return picture


def _placed(
    vessel: Vessel, filled: bool, random: Random, unseen: bool, size: tuple[float, float]
) -> tuple[Placed, Filling | None]:
    """So that the camera sees whether there is a drink."""
    drinks = UNSEEN_DRINKS if unseen else DRINKS
    level = vessel.floor + (vessel.fullest - vessel.floor) * random.uniform(0.33, 1)
    low, high = vessel.tilts
    while True:
        placed = place(vessel, random, random.uniform(low, high), random.uniform(*size))
        if not vessel.opaque or visible(placed, level if filled else vessel.floor) > 0.5:
            break
        low = placed.tilt  # from straight above all of it is seen
    return placed, Filling(drinks[random.integers(len(drinks))], level) if filled else None


def _stand(picture: Picture, placed: Placed, filling: Filling | None, random: Random) -> None:
    x, y, wide, flat = placed.ring(0, 1.05)
    reach = random.uniform(-0.6, 0.6) * wide
    shadow = soft(
        ellipse((x + reach, y + 0.1 * flat, wide * 1.25, max(flat, 0.12 * wide) * 1.15)), random.uniform(4, 14)
    )
    shade(picture, shadow, random.uniform(0.4, 0.75))
    (draw_cup if placed.vessel.opaque else draw_glass)(picture, placed, filling, random)


def _camera(picture: Picture, random: Random, blur: float = 0.0, light: float = 0.0) -> Picture:
    """Perspective, focus, light, noise and a scale to half; 0 for what a careful photographer has."""
    corners = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], np.float32)
    moved = (corners + random.uniform(-0.05, 0.05, (4, 2)) * SIDE).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved)
    if random.random() < 0.5:
        matrix = matrix @ np.array([[-1, 0, SIDE - 1], [0, 1, 0], [0, 0, 1]], float)
    picture = cv2.warpPerspective(picture, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    picture = cv2.GaussianBlur(picture, (0, 0), blur or random.uniform(0.5, 2.2))
    picture = cv2.resize(picture, (WRITTEN_SIDE, WRITTEN_SIDE), interpolation=cv2.INTER_AREA)
    picture = picture * (light or random.uniform(0.65, 1.25)) * random.uniform(0.88, 1.12, 3)
    contrast = random.uniform(0.8, 1.15)
    picture = 0.5 * (1 - contrast) * min(1, light or 1) + contrast * picture
    grain = random.uniform(0.0, 0.05)
    return np.asarray(np.clip(picture, 0, 1) + random.normal(0, grain, picture.shape), np.float32)


def _blurred(random: Random, unseen: bool) -> Picture:
    picture = _scene(random.random() < 0.5, random, unseen)
    if unseen or random.random() < 0.3:  # the camera moved
        length = int(random.integers(90, 140))
        kernel = np.zeros((length, length), np.float32)
        turn = random.uniform(0, math.pi)
        half = length / 2
        ends = [(round(half + s * half * math.cos(turn)), round(half + s * half * math.sin(turn))) for s in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
        return _camera(picture, random, blur=random.uniform(4, 8))
    return _camera(picture, random, blur=random.uniform(17, 34))


def _dark(random: Random, unseen: bool) -> Picture:
    picture = _camera(_scene(random.random() < 0.5, random, unseen), random, light=random.uniform(0.03, 0.1))
    return np.asarray(picture + random.normal(0, 0.03, picture.shape), np.float32)


def _bright(random: Random, unseen: bool) -> Picture:
    return _camera(_scene(random.random() < 0.5, random, unseen) * 0.3 + 0.8, random, light=random.uniform(1.1, 1.5))


def _cut_off(random: Random, unseen: bool) -> Picture:
    """Only a strip of it at the picture's edge."""
    vessels = UNSEEN_VESSELS if unseen else VESSELS
    placed, filling = _placed(vessels[random.integers(len(vessels))], random.random() < 0.5, random, unseen, (0.6, 0.9))
    wide = max(across for _, _, across, _ in placed.rings())
    seen = random.uniform(0.12, 0.3) * wide
    picture = ground(placed.tilt, random, unseen)
    things(picture, random)
    _stand(picture, replace(placed, x=seen - wide), filling, random)
    return _camera(picture, random)


def _covered(random: Random, unseen: bool) -> Picture:
    """Something is before it."""
    vessels = UNSEEN_VESSELS if unseen else VESSELS
    placed, filling = _placed(
        vessels[random.integers(len(vessels))], random.random() < 0.5, random, unseen, (0.5, 0.75)
    )
    picture = ground(placed.tilt, random, unseen)
    _stand(picture, placed, filling, random)
    rings = placed.rings()
    left, right = min(x - a for x, _, a, _ in rings), max(x + a for x, _, a, _ in rings)
    top, bottom = min(y - d for _, y, _, d in rings), max(y + d for _, y, _, d in rings)
    middle = (left + right) / 2 + random.uniform(-0.1, 0.1) * (right - left), (top + bottom) / 2
    reach_x, reach_y = 0.55 * (right - left), 0.5 * (bottom - top)
    colour = paint(random)
    if unseen:  # fingers
        for at in np.linspace(-0.8, 0.8, 5):
            y = middle[1] + at * reach_y
            finger = line([(middle[0] - reach_x * 1.3, y + 8), (middle[0] + reach_x * 1.1, y)], reach_y * 0.5)
            shade(picture, soft(finger, 4), 0.7)
            lay(picture, finger, np.multiply((0.85, 0.62, 0.5), random.uniform(0.6, 1.1)))
    else:
        lean = random.uniform(-0.3, 0.3) * reach_x
        corners = [
            (middle[0] - reach_x + lean, middle[1] - reach_y * 1.1),
            (middle[0] + reach_x + lean, middle[1] - reach_y * 1.1),
            (middle[0] + reach_x - lean, middle[1] + reach_y),
            (middle[0] - reach_x - lean, middle[1] + reach_y),
        ]
        board = polygon(corners)
        shade(picture, soft(board, 8), 0.7)
        lay(picture, board, colour)
        shade(picture, board, 0.8 + 0.4 * noise(random, int(random.integers(2, 12))))
    return _camera(picture, random)


def _nothing(random: Random, unseen: bool) -> Picture:
    picture = ground(random.uniform(4, 80), random, unseen)
    for _ in range(2):
        things(picture, random, most=4)
    if random.random() < 0.5:
        x, y = random.uniform(0.3, 0.7, 2) * SIDE
        THINGS[random.integers(len(THINGS))](picture, x, y, random.uniform(30, 80), random)
    return _camera(picture, random)


def _from_the_side(random: Random, unseen: bool) -> Picture:
    """A cup of which the inside is not seen."""
    vessels = [vessel for vessel in (UNSEEN_VESSELS if unseen else VESSELS) if vessel.opaque]
    vessel = vessels[random.integers(len(vessels))]
    placed = place(vessel, random, random.uniform(2, 9), random.uniform(0.5, 0.8))
    picture = ground(placed.tilt, random, unseen)
    things(picture, random)
    _stand(picture, placed, None, random)
    if random.random() < 0.4:  # a lid
        colour = paint(random)
        lid = body([(x, y - 4, a * 1.06, d) for x, y, a, d in placed.rings(0.93, 1.0)])
        lay(picture, lid, colour)
        lay(picture, ellipse(placed.ring(1, 1.02)), np.clip(np.multiply(colour, 1.15), 0, 1))
    return _camera(picture, random)


UNCLEAR: Mapping[str, Callable[[Random, bool], Picture]] = {
    "blurred": _blurred,
    "dark": _dark,
    "bright": _bright,
    "cut off": _cut_off,
    "covered": _covered,
    "nothing": _nothing,
    "from the side": _from_the_side,
}
