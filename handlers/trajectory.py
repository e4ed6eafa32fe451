"""A movement of a pointer -> numbers that describe how it was made. numpy only: training and workers share it.

Before anything is measured, a movement loses what belongs to its recorder: time starts at 0, the path at (0, 0),
positions are resampled at RATE and rounded to whole pixels. What is left is the movement.

Many movements are computed at once: their samples lie end to end in flat arrays (`ragged`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.ragged import Floats, Rows, ratio

MIN_POINTS, MAX_POINTS = 8, 5000
POINTERS = ("mouse", "touch")
RATE = 50.0  # samples per second; screens and mice report at 60 and more
MIN_SAMPLES = 5  # so that the third difference of positions, the jerk, exists; shorter movements rest at their end
PAUSE_SAMPLES = 3  # standing still for this long, 60 ms, is a pause
CURVE_POINTS = 64  # positions evenly along the path, whatever the time between them
CURVE_DEGREES = (3, 7)  # a program's curve is of the first, a hand's hardly of the second
SLOW_STEP = 3.0  # px: a hand that slow still holds its direction, noise does not
SUBMOVEMENT_SHARE = 0.1  # of the peak speed: a lower bump is no sub-movement
_NOISE = 1e-6  # rad, and px: what is smaller comes from the arithmetic


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Positions in px and times in ms, each (points,), finite; MIN_POINTS at least, times never fall."""

    x: Floats
    y: Floats
    t: Floats
    pointer: str = "mouse"  # one of POINTERS


@dataclass(frozen=True, slots=True)
class Feature:
    name: str
    unit: str
    meaning: str
    source: str


_GAMBOA = "Gamboa & Fred 2004, A behavioral biometric system based on human-computer interaction"
_FEHER = "Feher et al. 2012, User identity verification via mouse dynamics"
_ANTAL = "Antal & Egyed-Zsigmond 2019, Intrusion detection using mouse dynamics"
_BECAPTCHA = "Acien et al. 2022, BeCAPTCHA-Mouse"
_MEYER = "Meyer et al. 1988, Optimality in human motor performance"
_HOGAN = "Flash & Hogan 1985, The coordination of arm movements"
_SMOOTH = "Balasubramanian et al. 2015, On the analysis of movement smoothness"
_POWER = "Lacquaniti et al. 1983, The law relating the kinematic and figural aspects of drawing movements"
_ELLIOTT = "Elliott et al. 2001, A century later: Woodworth's two-component model of goal-directed aiming"

FEATURES = (
    Feature("duration", "ms", "from the first point to the last", _GAMBOA),
    Feature("path_length", "px", "way travelled", _GAMBOA),
    Feature("displacement", "px", "from start to end as the crow flies", _FEHER),
    Feature("straightness", "1", "displacement / path length", _GAMBOA),
    Feature("max_deviation", "px", "largest distance from the line through start and end", _ANTAL),
    Feature("mean_deviation", "px", "mean distance from the line through start and end", _ANTAL),
    Feature("overshoot", "px", "how far the path goes beyond its end, along the line from start to end", _ELLIOTT),
    Feature("mean_speed", "px/s", "path length / duration", _GAMBOA),
    Feature("max_speed", "px/s", "highest speed", _GAMBOA),
    Feature("median_speed", "px/s", "half of the time it was slower", _FEHER),
    Feature("slow_speed", "px/s", "a tenth of the time it was slower", _FEHER),
    Feature("speed_variation", "1", "standard deviation of the speed / its mean", _GAMBOA),
    Feature("speed_memory", "1", "correlation of the speed with that of the next sample", _BECAPTCHA),
    Feature("speed_roughness", "1", "what a moving average of three leaves of the speed / mean speed", _BECAPTCHA),
    Feature("start_speed", "1", "mean speed of the first tenth / mean speed", _ELLIOTT),
    Feature("end_speed", "1", "mean speed of the last tenth / mean speed", _ELLIOTT),
    Feature("second_half_speed", "1", "share of the way made in the second half of the time", _ELLIOTT),
    Feature("time_to_peak_speed", "1", "share of the duration until the highest speed", _MEYER),
    Feature("mean_acceleration", "px/s2", "mean size of the change of speed", _FEHER),
    Feature("max_acceleration", "px/s2", "fastest gain of speed", _FEHER),
    Feature("max_deceleration", "px/s2", "fastest loss of speed", _FEHER),
    Feature("acceleration_memory", "1", "correlation of the change of speed with the next one", _BECAPTCHA),
    Feature("jerk", "px/s3", "root mean square of the third derivative of the position", _HOGAN),
    Feature("log_dimensionless_jerk", "1", "log of the mean squared jerk x duration^6 / path length^2", _SMOOTH),
    Feature("mean_angular_velocity", "rad/s", "mean size of the turn per time", _GAMBOA),
    Feature("max_angular_velocity", "rad/s", "sharpest turn per time", _GAMBOA),
    Feature("mean_curvature", "rad/px", "sum of the sizes of all turns / path length", _GAMBOA),
    Feature("net_turn", "rad", "sum of all turns with their sign: 2 pi for a circle", _FEHER),
    Feature("turn_variation", "rad", "standard deviation of the turns", _GAMBOA),
    Feature("turn_memory", "1", "correlation of a turn with the next: tremor turns back, an arc goes on", _BECAPTCHA),
    Feature("straight_steps", "1", "share of the moving steps that do not turn at all", _BECAPTCHA),
    Feature("path_roughness", "px", "root mean square of what a moving average of three leaves", _BECAPTCHA),
    Feature("reversals", "1", "share of the moving steps that go back, by more than a right angle", _ANTAL),
    Feature("curve_residual", "px", "distance from the best cubic curve, root mean square", _BECAPTCHA),
    Feature("fine_residual", "px", "distance from the best curve of degree 7, root mean square", _BECAPTCHA),
    Feature("bending", "rad", "mean turn from one 64th of the path to the next", _GAMBOA),
    Feature("bending_variation", "1", "standard deviation of the size of these turns / its mean", _GAMBOA),
    Feature("bending_memory", "1", "correlation of such a turn with the next", _BECAPTCHA),
    Feature("slow_wiggle", "rad", "mean size of the turns of steps of at most 3 px", _BECAPTCHA),
    Feature("residual_memory", "1", "correlation of the fine residual with that a 64th of the path on", _BECAPTCHA),
    Feature("power_law_exponent", "1", "slope of log speed over log curvature: -1/3 in drawing", _POWER),
    Feature("power_law_fit", "1", "correlation of log speed with log curvature", _POWER),
    Feature("pauses", "1", "times that it stood still", _FEHER),
    Feature("pause_share", "1", "share of the time that it stood still", _FEHER),
    Feature("start_pause", "ms", "from the first point to the first move", _FEHER),
    Feature("end_pause", "ms", "from the last move to the last point", _FEHER),
    Feature("x_direction_changes", "1/s", "left to right or back, per second", _ANTAL),
    Feature("y_direction_changes", "1/s", "up to down or back, per second", _ANTAL),
    Feature("turn_direction_changes", "1", "share of the turns that turn the other way than the one before", _GAMBOA),
    Feature("submovements", "1", "peaks of the smoothed speed", _MEYER),
    Feature("interval_variation", "1", "standard deviation of the recorder's intervals / their mean", _ANTAL),
    Feature("interval_repeats", "1", "share of the recorder's intervals, in whole ms, equal to the one before", _ANTAL),
)
NAMES = tuple(feature.name for feature in FEATURES)


def features(trajectories: Sequence[Trajectory]) -> NDArray[np.float32]:
    """(trajectories, features), in the order of FEATURES; always finite."""
    if not trajectories:
        return np.empty((0, len(FEATURES)), np.float32)
    columns = _intervals(trajectories) | _movement(trajectories)
    return np.stack([columns[name] for name in NAMES], axis=1).astype(np.float32)


def compress(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithm of their size with their sign: most features are spread over several powers of ten."""
    compressed: NDArray[np.float32] = np.copysign(np.log1p(np.abs(values)), values)
    return compressed


def expand(values: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `compress`."""
    expanded: NDArray[Any] = np.copysign(np.expm1(np.abs(values)), values)
    return expanded


def _intervals(trajectories: Sequence[Trajectory]) -> dict[str, Floats]:
    """What the recorder's own clock tells, in whole ms, as most of them keep it."""
    rows = Rows(np.array([len(one.t) for one in trajectories]))
    gaps = rows.diff(np.concatenate([one.t - one.t[0] for one in trajectories]).round())
    rows = rows.shorter()
    pairs = Rows(np.maximum(rows.lengths - 1, 1))
    repeats = np.abs(rows.diff(gaps)) < 1 if rows.lengths.min() > 1 else np.zeros(pairs.ends[-1])
    return {
        "interval_variation": ratio(rows.std(gaps), rows.mean(gaps)),
        "interval_repeats": pairs.mean(repeats),
    }


def _resample(trajectories: Sequence[Trajectory]) -> tuple[Floats, Floats, Rows, Floats]:
    """Whole pixels relative to the start, at RATE, the rows they form, and the durations in ms.

    One search serves all: their times are laid one behind the other, with a gap between them. The interpolation has
    each one's own times, or the batch would decide whether half a pixel is rounded up.
    """
    lengths = np.array([len(one.t) for one in trajectories])
    starts = lengths.cumsum() - lengths
    x, y, t = (np.concatenate([getattr(one, axis) for one in trajectories]) for axis in "xyt")
    t = t - t[starts].repeat(lengths)
    duration = t[starts + lengths - 1]
    step = 1000 / RATE
    rows = Rows(np.maximum(np.ceil(duration / step).astype(np.int64) + 1, MIN_SAMPLES))
    begin = (duration + step).cumsum() - duration
    at = (np.arange(rows.ends[-1]) - rows.spread(rows.starts)) * step
    at = np.minimum(at, rows.spread(duration))
    before = np.searchsorted(t + begin.repeat(lengths), at + rows.spread(begin), "right") - 1
    after = np.minimum(before + 1, rows.spread(starts + lengths - 1))
    share = ratio(at - t[before], t[after] - t[before])
    x, y = (np.rint(v[before] - v[rows.spread(starts)] + share * (v[after] - v[before])) for v in (x, y))
    x[rows.starts] = y[rows.starts] = 0  # also where several points share the first time
    return x, y, rows, duration


def _movement(trajectories: Sequence[Trajectory]) -> dict[str, Floats]:
    x, y, samples, duration = _resample(trajectories)
    dx, dy = samples.diff(x), samples.diff(y)  # px per step
    way = np.hypot(dx, dy)
    steps = samples.shorter()
    path_length = steps.sum(way)
    return (
        {"duration": duration, "path_length": path_length}
        | _shape(x, y, samples, path_length)
        | _curve(x, y, way, samples)
        | _speed(way * RATE, steps)
        | _jerk(dx, dy, steps, path_length)
        | _turns(dx, dy, way, steps)
        | _pauses(way, steps)
    )


def _shape(x: Floats, y: Floats, samples: Rows, path_length: Floats) -> dict[str, Floats]:
    end_x, end_y = x[samples.ends - 1], y[samples.ends - 1]
    displacement = np.hypot(end_x, end_y)
    along_x, along_y = ratio(end_x, displacement), ratio(end_y, displacement)  # (0, 0) for a closed path
    closed = displacement == 0
    along = x * samples.spread(along_x) + y * samples.spread(along_y)
    beside = np.abs(y * samples.spread(along_x) - x * samples.spread(along_y))
    beside = np.where(samples.spread(closed), np.hypot(x, y), beside)
    rough = [here - (before + here + after) / 3 for before, here, after, _ in map(samples.triples, (x, y))]
    return {
        "displacement": displacement,
        "straightness": ratio(displacement, path_length),
        "max_deviation": samples.max(beside),
        "mean_deviation": samples.mean(beside),
        "overshoot": np.maximum(samples.max(along) - displacement, 0),
        "path_roughness": np.sqrt(Rows(samples.lengths - 2).mean(rough[0] ** 2 + rough[1] ** 2)),
    }


def _curve(x: Floats, y: Floats, way: Floats, samples: Rows) -> dict[str, Floats]:
    """What polynomials of the way travelled leave of the path. The fit is one product with a constant matrix."""
    travelled = np.zeros(len(x))
    inside = np.ones(len(x), bool)
    inside[samples.starts] = False
    travelled[inside] = way
    travelled = travelled.cumsum() + samples.spread(np.arange(len(samples.lengths)))  # a px between two rows
    first, last = travelled[samples.starts], travelled[samples.ends - 1]
    at = (first[:, None] + (last - first)[:, None] * np.linspace(0, 1, CURVE_POINTS)).ravel()
    points = np.stack([np.interp(at, travelled, v).reshape(-1, CURVE_POINTS) for v in (x, y)], 1)  # (rows, 2, 64)
    coarse, fine = (points @ projector for projector in _RESIDUALS)
    variance = (fine**2).sum((1, 2))
    variance = np.where(variance > CURVE_POINTS * _NOISE**2, variance, 0)  # a line leaves nothing
    legs = np.diff(points)  # (rows, 2, 63)
    legs[np.abs(legs) <= _NOISE] = 0  # its ends lie on top of each other
    cross = legs[:, 0, :-1] * legs[:, 1, 1:] - legs[:, 1, :-1] * legs[:, 0, 1:]
    dot = (legs[:, :, :-1] * legs[:, :, 1:]).sum(1)
    cross[np.abs(cross) <= _NOISE * np.abs(dot)] = 0  # who goes back along the same line turns by +pi, never by -pi
    bend = np.arctan2(cross, dot)  # (rows, 62)
    size = np.abs(bend).mean(1)
    centred = bend - bend.mean(1, keepdims=True)
    return {
        "bending": size,
        "bending_variation": ratio(np.abs(bend).std(1), size),
        "bending_memory": ratio((centred[:, 1:] * centred[:, :-1]).sum(1), (centred**2).sum(1)),
        "curve_residual": np.sqrt((coarse**2).sum((1, 2)) / CURVE_POINTS),
        "fine_residual": np.sqrt(variance / CURVE_POINTS),
        "residual_memory": ratio((fine[:, :, 1:] * fine[:, :, :-1]).sum((1, 2)), variance),
    }


def _residual_matrix(degree: int) -> Floats:
    """(64, 64): values on an even grid times this are what the least-squares polynomial leaves of them."""
    basis, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, CURVE_POINTS), degree + 1))
    return np.asarray(np.eye(CURVE_POINTS) - basis @ basis.T)


_RESIDUALS = tuple(_residual_matrix(degree) for degree in CURVE_DEGREES)


def _speed(speed: Floats, steps: Rows) -> dict[str, Floats]:
    """Of the speed in px/s, one per step."""
    mean, peak = steps.mean(speed), steps.max(speed)
    ordered = steps.ordered(speed)
    tenth, half = np.maximum(steps.lengths // 10, 1), steps.lengths // 2
    travelled = np.concatenate(([0.0], speed.cumsum()))

    def mean_between(first: NDArray[np.int64], last: NDArray[np.int64]) -> Floats:
        return np.asarray(np.maximum(travelled[last] - travelled[first], 0) / (last - first))

    gain = steps.diff(speed) * RATE  # px/s2
    gains = steps.shorter()
    before, here, after, _ = steps.triples(speed)
    slower, faster = steps.pairs(speed)
    left, middle, right, triples = gains.triples((slower + faster) / 2)
    tops = (middle > left) & (middle >= right) & (middle > triples.spread(SUBMOVEMENT_SHARE * peak))
    return {
        "mean_speed": mean,
        "max_speed": peak,
        "median_speed": ordered[steps.starts + half],
        "slow_speed": ordered[steps.starts + steps.lengths // 10],
        "speed_variation": ratio(steps.std(speed), mean),
        "speed_memory": steps.memory(speed),
        "speed_roughness": ratio(gains.shorter().mean(np.abs(here - (before + here + after) / 3)), mean),
        "start_speed": ratio(mean_between(steps.starts, steps.starts + tenth), mean),
        "end_speed": ratio(mean_between(steps.ends - tenth, steps.ends), mean),
        "second_half_speed": ratio(mean_between(steps.starts + half, steps.ends), 2 * mean),
        "time_to_peak_speed": steps.first(speed == steps.spread(peak)) / steps.lengths,
        "mean_acceleration": gains.mean(np.abs(gain)),
        "max_acceleration": np.maximum(gains.max(gain), 0),
        "max_deceleration": np.maximum(gains.max(-gain), 0),
        "acceleration_memory": gains.memory(gain),
        "submovements": triples.sum(tops),
    }


def _jerk(dx: Floats, dy: Floats, steps: Rows, path_length: Floats) -> dict[str, Floats]:
    second = steps.shorter()
    x, y = (second.diff(steps.diff(v)) for v in (dx, dy))
    mean_square = second.shorter().mean(x**2 + y**2) * RATE**6  # (px/s3)^2
    dimensionless = mean_square * ratio((steps.lengths / RATE) ** 6, path_length**2)
    return {"jerk": np.sqrt(mean_square), "log_dimensionless_jerk": np.log1p(dimensionless)}


def _turns(dx: Floats, dy: Floats, way: Floats, steps: Rows) -> dict[str, Floats]:
    """Turns between a moving step and the moving step before it, whatever pause lies between."""
    moving = way > 0
    index = np.arange(len(way))
    last = np.maximum.accumulate(np.where(moving, index, -1))
    before = np.concatenate(([-1], last[:-1]))  # the moving step before each
    turning = moving & (before >= steps.spread(steps.starts))
    before = np.maximum(before, 0)
    turn = np.arctan2(dx[before] * dy - dy[before] * dx, dx[before] * dx + dy[before] * dy) * turning  # rad
    size = np.abs(turn)
    count = np.maximum(steps.sum(turning), 1)
    path_length, duration = steps.sum(way), steps.lengths / RATE
    curvature = ratio(size, (way + way[before]) / 2)  # rad/px
    curved = turning & (size > 0)
    log_curvature, log_speed = (np.log(np.where(curved, v, 1)) for v in (curvature, way))
    fit, slope = steps.correlation(log_curvature, log_speed, curved)
    earlier, later = steps.pairs(turn)
    turned_back = steps.shorter().sum(earlier * later < 0)
    both = steps.shorter().sum(earlier * later != 0)
    net, squares = steps.sum(turn), steps.sum(turn**2)
    return {
        "mean_angular_velocity": steps.sum(size) / duration,
        "max_angular_velocity": steps.max(size) * RATE,
        "mean_curvature": ratio(steps.sum(size), path_length),
        "net_turn": np.abs(net),
        "turn_variation": np.sqrt(np.maximum(squares / count - (net / count) ** 2, 0)),
        "turn_memory": steps.memory(turn),
        "straight_steps": steps.sum(turning & (size == 0)) / count,
        "slow_wiggle": ratio(steps.sum(size * (way <= SLOW_STEP)), steps.sum(turning & (way <= SLOW_STEP))),
        "reversals": steps.sum(size > np.pi / 2) / count,
        "power_law_exponent": slope,
        "power_law_fit": fit,
        "x_direction_changes": _reversals(dx, steps) / duration,
        "y_direction_changes": _reversals(dy, steps) / duration,
        "turn_direction_changes": ratio(turned_back, both),
    }


def _reversals(along: Floats, steps: Rows) -> Floats:
    """How often the sign changes; a rest does not hide a change."""
    sign = np.sign(along)
    last = np.maximum.accumulate(np.where(sign != 0, np.arange(len(sign)), -1))
    before = np.concatenate(([-1], last[:-1]))
    within = before >= steps.spread(steps.starts)
    return steps.sum(within & (sign * sign[np.maximum(before, 0)] < 0))


def _pauses(way: Floats, steps: Rows) -> dict[str, Floats]:
    still = way == 0
    index = np.arange(len(still))
    moved = np.maximum.accumulate(np.where(still, -1, index))
    run = index - np.maximum(moved, steps.spread(steps.starts) - 1)  # how many steps it has stood still by now
    step = 1000 / RATE
    start = steps.first(~still)
    last = np.maximum(moved[steps.ends - 1], steps.starts - 1)
    return {
        "pauses": steps.sum(still & (run == PAUSE_SAMPLES)),
        "pause_share": steps.mean(still),
        "start_pause": start * step,
        "end_pause": (steps.ends - 1 - last) * step,
    }
