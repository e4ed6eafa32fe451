"""Movements that programs would make in a person's place: same start, end, duration and number of points.

A family is a way to make a path, a way to go along it, or a way to hide both. What a family leaves open is drawn anew
for every movement: the law of speed, the clock, whether the pointer rests before and after as the person's did, whether
it corrects its end, a little noise, whole pixels or not. A detector that had one of these constant would learn it
instead of the movement.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from handlers.trajectory import Trajectory

Floats = NDArray[np.float64]
_Path = Callable[[Floats], Floats]  # progress (n,) from 0 to 1 -> positions (n, 2) in px

CLOSED = 0.3  # of the path length: who comes back that near to the start has drawn a loop


def synthesise(family: str, human: Trajectory, random: np.random.Generator) -> Trajectory:
    """One movement of `family`, one of FAMILIES, in place of the person's."""
    bot = FAMILIES[family](human, random)
    if random.random() < 0.3 and family not in _NOISY:
        bot = _noisy(bot, random.uniform(0.5, 3), random, memory=random.choice((0.0, 0.5)))
    x, y = (bot.x.round(), bot.y.round()) if random.random() < 0.5 else (bot.x, bot.y)
    return Trajectory(x, y, bot.t, human.pointer)


def _along(path: _Path, human: Trajectory, random: np.random.Generator) -> Trajectory:
    """A path gone along by a law of speed; a quarter of the bots go up to 5 % too far and back."""
    beyond = random.uniform(0.01, 0.05) if random.random() < 0.25 else 0.0
    return _with_correction(path, human, random, beyond)


def _linear(human: Trajectory, random: np.random.Generator) -> Trajectory:
    return _along(_straight_path(human, random), human, random)


def _quadratic(human: Trajectory, random: np.random.Generator) -> Trajectory:
    return _along(_curved_path(human, random, controls=1), human, random)


def _bezier(human: Trajectory, random: np.random.Generator) -> Trajectory:
    return _along(_curved_path(human, random, controls=2), human, random)


def _jittered(human: Trajectory, random: np.random.Generator) -> Trajectory:
    """Any of the paths with noise of half a pixel to three on every point but the ends."""
    bot = _along(_any_path(human, random), human, random)
    return _noisy(bot, random.uniform(0.5, 3), random, memory=random.choice((0.0, 0.5, 0.8)))


def _overshooting(human: Trajectory, random: np.random.Generator) -> Trajectory:
    """5 to 20 % too far, then back, as people's corrections look."""
    return _with_correction(_any_path(human, random), human, random, random.uniform(0.05, 0.2))


def _with_correction(path: _Path, human: Trajectory, random: np.random.Generator, beyond: float) -> Trajectory:
    """By a law of speed to that share of the way beyond the end, and from there back."""
    times = _clock(human, random)
    share = _moving_share(times, human, random)
    turned = random.uniform(0.65, 0.85) if beyond else 1.0
    out = _progress(str(random.choice(LAWS)), np.clip(share / turned, 0, 1), random) * (1 + beyond)
    back = _law("minimum_jerk", np.clip((share - turned) / max(1 - turned, 1e-9), 0, 1), random) * beyond
    x, y = path(out - back).T
    return Trajectory(x, y, times)


def _human_speed(human: Trajectory, random: np.random.Generator) -> Trajectory:
    """The person's own speed along a path of the program's."""
    way = np.hypot(np.diff(human.x), np.diff(human.y)).cumsum()
    x, y = _any_path(human, random)(np.concatenate(([0.0], way / max(way[-1], 1e-9)))).T
    return Trajectory(x, y, human.t - human.t[0])


def _replay(human: Trajectory, random: np.random.Generator) -> Trajectory:
    """The person's own movement, up to a quarter faster or slower, with noise of one pixel to three."""
    bot = Trajectory(human.x, human.y, (human.t - human.t[0]) * random.uniform(0.8, 1.25))
    return _noisy(bot, random.uniform(1, 3), random, memory=0.0)


FAMILIES: dict[str, Callable[[Trajectory, np.random.Generator], Trajectory]] = {
    "linear": _linear,
    "quadratic": _quadratic,
    "bezier": _bezier,
    "jittered": _jittered,
    "overshooting": _overshooting,
    "human_speed": _human_speed,
    "replay": _replay,
}
_NOISY = ("jittered", "replay")
LAWS = ("constant", "minimum_jerk", "log", "gaussian", "lognormal")


def _progress(law: str, share: Floats, random: np.random.Generator) -> Floats:
    """A law of speed, which half of the bots keep unsteadily."""
    progress = _law(law, share, random)
    if random.random() < 0.5:
        return progress
    steps = np.diff(progress) * np.exp(random.normal(0, random.uniform(0.05, 0.5), len(progress) - 1))
    unsteady = np.concatenate(([0.0], steps.cumsum()))
    return np.asarray(unsteady / max(unsteady[-1], 1e-9))


def _law(name: str, share: Floats, random: np.random.Generator) -> Floats:
    """Share of the time (n,) -> share of the way (n,); both from 0 to 1."""
    if name == "minimum_jerk":  # Flash & Hogan 1985
        return np.asarray(share**3 * (10 - 15 * share + 6 * share**2))
    if name == "log":  # fast first, then ever slower
        steepness = random.uniform(3, 30)
        return np.asarray(np.log1p(steepness * share) / np.log1p(steepness))
    if name == "lognormal":  # one to five strokes, as Plamondon's theory puts movements together
        grid = np.linspace(0, 1, 402)[1:]
        speed = np.zeros(401)
        for onset in random.uniform(0, 0.7, int(random.integers(1, 6))) * (random.random() < 0.9):
            late = np.maximum(grid - onset, 1e-9)
            spread = random.uniform(0.2, 0.7)
            centre = np.log(random.uniform(0.05, 0.4))
            speed += random.uniform(0.2, 1) * np.exp(-0.5 * ((np.log(late) - centre) / spread) ** 2) / late
        way = np.concatenate(([0.0], speed.cumsum()))
        return np.asarray(np.interp(share, np.linspace(0, 1, 402), way / way[-1]))
    if name == "gaussian":  # a bell of speed
        bell = np.exp(-0.5 * ((np.linspace(0, 1, 201) - random.uniform(0.3, 0.6)) / random.uniform(0.12, 0.25)) ** 2)
        way = np.concatenate(([0.0], bell.cumsum()))
        return np.asarray(np.interp(share, np.linspace(0, 1, 202), way / way[-1]))
    return share


def _clock(human: Trajectory, random: np.random.Generator) -> Floats:
    """Times in ms from 0: the person's own, an even tick, or a tick that is late by a little now and then."""
    own = human.t - human.t[0]
    even = np.linspace(0, own[-1], len(own))
    kind = random.integers(3)
    if kind == 0:
        return np.asarray(own)
    if kind == 1:
        return even.round()
    late = np.abs(random.normal(0, random.uniform(0.05, 0.4) * own[-1] / len(own), len(own)))
    times = np.sort(even + late)
    return np.asarray(times - times[0])


def _moving_share(times: Floats, human: Trajectory, random: np.random.Generator) -> Floats:
    """How much of the moving time is over, (n,) from 0 to 1; half of the bots rest at the ends as the person did."""
    first, last = 0.0, times[-1]
    moved = np.flatnonzero((np.diff(human.x) != 0) | (np.diff(human.y) != 0))
    if random.random() < 0.5 and len(moved):
        own = human.t - human.t[0]
        first, last = own[moved[0]], max(own[moved[-1] + 1], own[moved[0]] + 1)
    return np.asarray(np.clip((times - first) / max(last - first, 1.0), 0, 1))


def _any_path(human: Trajectory, random: np.random.Generator) -> _Path:
    controls = int(random.integers(3))
    return _curved_path(human, random, controls) if controls else _straight_path(human, random)


def _straight_path(human: Trajectory, random: np.random.Generator) -> _Path:
    """A line; for a loop a polygon."""
    if _is_loop(human):
        corners = int(random.integers(4, 16))
        ring = _ring(human, random, 0.0)(np.linspace(0, 1, corners + 1))
        return lambda progress: np.stack([np.interp(progress, np.linspace(0, 1, corners + 1), v) for v in ring.T], 1)
    start, end = _ends(human)
    return lambda progress: start + progress[:, None] * (end - start)


def _curved_path(human: Trajectory, random: np.random.Generator, controls: int) -> _Path:
    """A Bezier curve with one or two control points beside the line; for a loop an ellipse, even or bulging."""
    if _is_loop(human):
        return _ring(human, random, 0.0 if controls == 1 else 0.15)
    start, end = _ends(human)
    beside = np.array([start[1] - end[1], end[0] - start[0]])
    at = (np.arange(controls) + 1) / (controls + 1)
    offsets = random.normal(0, 0.2, controls) * (3 - controls)
    points = [start, *(start + a * (end - start) + o * beside for a, o in zip(at, offsets, strict=True)), end]

    def curve(progress: Floats) -> Floats:
        level = [np.broadcast_to(point, (len(progress), 2)) for point in points]
        while len(level) > 1:  # de Casteljau
            level = [a + progress[:, None] * (b - a) for a, b in pairwise(level)]
        return level[0]

    return curve


def _ring(human: Trajectory, random: np.random.Generator, bulge: float) -> _Path:
    """An ellipse about as large as the person's loop, tilted, begun where it began, in either direction."""
    positions = np.stack([human.x, human.y], 1)
    centre = (positions.max(0) + positions.min(0)) / 2
    radius = (np.ptp(positions, 0) / 2 + 1) * random.uniform(0.75, 1.25, 2)
    tilt = random.uniform(0, np.pi)
    turned = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    first = np.arctan2(*((positions[0] - centre) @ turned.T / radius)[::-1])
    turns = random.choice((-1, 1)) * random.uniform(0.95, 1.1)
    phase, waves = random.uniform(0, 2 * np.pi), int(random.integers(2, 5))

    def ring(progress: Floats) -> Floats:
        angle = first + 2 * np.pi * turns * progress
        size = 1 + bulge * np.sin(waves * 2 * np.pi * progress + phase)
        return np.asarray(centre + (radius * np.stack([np.cos(angle) * size, np.sin(angle) * size], 1)) @ turned)

    return ring


def _noisy(bot: Trajectory, pixels: float, random: np.random.Generator, memory: float) -> Trajectory:
    """Noise of that standard deviation, new at every point or a wandering one; the ends stay where they are."""
    fresh = random.normal(0, pixels * np.sqrt(1 - memory**2), (2, len(bot.x)))
    noise = lfilter([1.0], [1.0, -memory], fresh)
    noise[:, [0, -1]] = 0
    return Trajectory(bot.x + noise[0], bot.y + noise[1], bot.t)


def _is_loop(human: Trajectory) -> bool:
    start, end = _ends(human)
    length = np.hypot(np.diff(human.x), np.diff(human.y)).sum()
    return bool(np.hypot(*(end - start)) < CLOSED * length)


def _ends(human: Trajectory) -> tuple[Floats, Floats]:
    return np.array([human.x[0], human.y[0]]), np.array([human.x[-1], human.y[-1]])
