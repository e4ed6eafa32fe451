"""Bodies of revolution and what fills them, as a camera above the table sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.drawings.canvas import SIDE, Ring

LEVELS = 90  # rings of a whole body
WALL = 0.93  # of the radius: where the inside is


@dataclass(frozen=True, slots=True)
class Vessel:
    """Lengths are in heights of the vessel. `tilts` are the camera's angles above the table, in degrees."""

    profile: tuple[tuple[float, float], ...]  # height and radius, from the foot to the rim
    floor: float  # height at which the inside begins
    tilts: tuple[float, float]
    opaque: bool = False
    handle: bool = False
    fullest: float = 0.95  # height of the highest drink


# Clear ones from the side to straight above; into opaque ones a camera must look from above.
VESSELS = (
    Vessel(((0, 0.30), (1, 0.36)), 0.06, (4, 85)),  # tumbler
    Vessel(((0, 0.42), (1, 0.46)), 0.08, (4, 85)),  # whisky glass
    Vessel(((0, 0.19), (1, 0.23)), 0.05, (4, 45)),  # highball
    Vessel(((0, 0.21), (0.6, 0.25), (0.85, 0.31), (1, 0.29)), 0.05, (4, 50)),  # pint
    Vessel(((0, 0.36), (1, 0.36)), 0.07, (6, 70), handle=True),  # glass mug
    Vessel(((0, 0.17), (0.5, 0.17), (0.62, 0.15), (0.74, 0.07), (1, 0.06)), 0.02, (3, 14), fullest=0.72),  # bottle
    Vessel(((0, 0.40), (1, 0.42)), 0.06, (33, 88), opaque=True, handle=True),  # mug
    Vessel(((0, 0.26), (1, 0.38)), 0.03, (36, 88), opaque=True),  # paper cup
    Vessel(((0, 0.34), (0.3, 0.38), (1, 0.36)), 0.05, (36, 88), opaque=True),  # beaker
)
UNSEEN_VESSELS = (
    Vessel(
        ((0, 0.24), (0.02, 0.24), (0.03, 0.03), (0.4, 0.03), (0.46, 0.12), (0.62, 0.26), (0.8, 0.27), (1, 0.21)),
        0.44,
        (4, 35),
        fullest=0.85,
    ),  # wine glass
    Vessel(((0, 0.30), (0.06, 0.30), (0.08, 0.24), (0.45, 0.52), (1, 0.62)), 0.12, (26, 88), opaque=True, handle=True),
    Vessel(((0, 0.32), (0.3, 0.36), (0.62, 0.16), (0.8, 0.15), (1, 0.22)), 0.04, (4, 25), fullest=0.6),  # carafe
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A vessel in the picture: its foot's centre, its height in pixels, and the camera's tilt in degrees."""

    vessel: Vessel
    x: float
    y: float
    height: float
    tilt: float

    def ring(self, at: float, narrower: float = 1.0) -> Ring:
        """The edge of the body at a height (0 to 1)."""
        heights, radii = zip(*self.vessel.profile, strict=True)
        radius = float(np.interp(at, heights, radii)) * self.height * narrower
        angle = math.radians(self.tilt)
        return self.x, self.y - at * self.height * math.cos(angle), radius, radius * math.sin(angle)

    def rings(self, low: float = 0.0, high: float = 1.0, narrower: float = 1.0) -> list[Ring]:
        count = max(2, round(LEVELS * (high - low)))
        return [self.ring(at, narrower) for at in np.linspace(low, high, count)]

    @property
    def rim(self) -> Ring:
        return self.ring(1)

    @property
    def inside(self) -> Ring:
        return self.ring(1, WALL)


def place(vessel: Vessel, random: np.random.Generator, tilt: float, size: float, room: float = 1.0) -> Placed:
    """So large that it takes a share `size` of the picture, somewhere in it; with `room` 0 in the middle."""
    whole = Placed(vessel, 0, 0, 1, tilt).rings()
    left, right = min(x - a for x, _, a, _ in whole), max(x + a for x, _, a, _ in whole)
    top, bottom = min(y - d for _, y, _, d in whole), max(y + d for _, y, _, d in whole)
    right += 0.3 * vessel.handle
    height = size * SIDE / max(right - left, bottom - top)
    free_x, free_y = (SIDE - height * extent for extent in (right - left, bottom - top))
    share_x, share_y = (0.5 + room * random.uniform(-0.4, 0.4) for _ in range(2))
    return Placed(vessel, free_x * share_x - left * height, free_y * share_y - top * height, height, tilt)
