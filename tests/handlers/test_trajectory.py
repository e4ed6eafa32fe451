"""What the features say of movements whose every figure is known, and that they hang on the movement alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.ragged import Floats
from handlers.trajectory import FEATURES, MAX_POINTS, MIN_POINTS, NAMES, Trajectory, compress, features

STEP = 20.0  # ms between two samples: with reports in this beat, resampling changes nothing
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)


def measured(movement: Trajectory) -> dict[str, float]:
    return dict(zip(NAMES, features([movement])[0].tolist(), strict=True))


def even(count: int, step: float) -> Floats:
    """From 0, (count,)."""
    return np.asarray(step * np.arange(count, dtype=np.float64), np.float64)


def beat(x: Floats, y: Floats, step: float = STEP) -> Trajectory:
    return Trajectory(x, y, even(len(x), step))


def line(dx: float = 5, dy: float = 0, points: int = 51, step: float = STEP) -> Trajectory:
    return beat(even(points, dx), even(points, dy), step)


def walk(seed: int, points: int, step: float = STEP) -> Trajectory:
    x, y = np.random.default_rng(seed).normal(0, 9, (2, points)).cumsum(axis=1)
    return beat(x, y, step)


def circle(turns: float = 1, points: int = 101, radius: float = 1000) -> Trajectory:
    angle = np.linspace(0, turns * 2 * np.pi, points)
    return beat((radius * np.cos(angle)).round(), (radius * np.sin(angle)).round())


def reaching(way: Floats, length: float = 30000) -> Trajectory:
    """Along a line, so long that whole pixels make no ripples; `way` (n,) from 0 to 1 is how much of it is behind."""
    return beat((length * way).round(), np.zeros(len(way)))


def minimum_jerk(points: int) -> Floats:
    share = np.linspace(0, 1, points)
    return np.asarray(share**3 * (10 - 15 * share + 6 * share**2))


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    """Any valid ones: standing still, all at one time, whole or broken numbers, in jumps or by pixels."""
    count = draw(st.integers(MIN_POINTS, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reach = draw(st.sampled_from([0, 1, 3, 100, 1e6]))
    x, y = random.uniform(-reach, reach, (2, count))
    if draw(st.booleans()):
        x, y = x.cumsum(), y.cumsum()
    if draw(st.booleans()):
        x, y = x.round(), y.round()
    if draw(st.booleans()):
        y = x * draw(st.sampled_from([0, 1, -2]))  # to and fro on a line
    gaps = random.uniform(0, draw(st.sampled_from([0, 0.1, 16, 700])), count) * random.integers(0, 2, count)
    t = draw(st.sampled_from([0, -5.5, 1.6e12])) + gaps.cumsum()
    return Trajectory(x, y, t.round() if draw(st.booleans()) else t)


def test_every_feature_is_documented() -> None:
    assert len(set(NAMES)) == len(FEATURES)
    for feature in FEATURES:
        assert feature.unit in ("1", "px", "ms", "rad", "px/s", "px/s2", "px/s3", "rad/s", "rad/px", "1/s"), feature
        assert feature.meaning, feature
        assert feature.source, feature


def test_nothing_gives_no_rows() -> None:
    assert features([]).shape == (0, len(FEATURES))


@PATIENT
@given(st.lists(trajectories(), min_size=1, max_size=6))
def test_a_batch_is_finite_and_says_what_each_one_says_alone(movements: list[Trajectory]) -> None:
    found = features(movements)
    assert found.dtype == np.float32
    assert found.shape == (len(movements), len(FEATURES))
    assert np.isfinite(found).all()
    assert np.isfinite(compress(found)).all()
    alone = np.concatenate([features([movement]) for movement in movements])
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-4)


def test_lines_say_the_same_in_a_batch() -> None:
    """What they leave to be correlated is the rounding of sums, of which a batch has others."""
    walks = [walk(seed, 300, step=13) for seed in range(50)]
    lines = [line(), line(7, 1), line(1, 1), line(2, 1), line(3, step=17)]
    alone = np.concatenate([features([movement]) for movement in lines])
    np.testing.assert_allclose(features(walks + lines)[len(walks) :], alone, rtol=1e-5, atol=1e-6)
    for name in ("residual_memory", "bending_memory", "bending_variation", "turn_memory", "power_law_fit"):
        assert (alone[:, NAMES.index(name)] == 0).all(), name


def test_half_pixels_are_rounded_alike_in_a_batch() -> None:
    """Odd steps every 40 ms put every second sample between two pixels, and the broken clock before them shifts."""
    before = Trajectory(*np.random.default_rng(0).uniform(0, 99, (3, 20)).cumsum(axis=1))
    halves = [line(3, -5, points=20, step=40)] * 3
    expected = features(halves[:1]).repeat(3, axis=0)
    np.testing.assert_allclose(features([before, *halves])[1:], expected, rtol=1e-5, atol=1e-6)


@PATIENT
@given(trajectories(), st.integers(-(10**6), 10**6), st.integers(-3000, 3000), st.integers(-3000, 3000))
def test_neither_the_place_nor_the_time_counts(movement: Trajectory, later: int, right: int, down: int) -> None:
    x, y = movement.x.round(), movement.y.round()
    t = (movement.t - movement.t[0]).round()
    moved = Trajectory(x + right, y + down, t + later)
    np.testing.assert_array_equal(features([moved]), features([Trajectory(x, y, t)]))


def test_long_numbers_hide_nothing() -> None:
    """A program's positions have many digits where a recorder's are whole pixels."""
    long = walk(1, points=80)
    x, y = long.x - long.x[0], long.y - long.y[0]
    np.testing.assert_array_equal(features([beat(x, y)]), features([beat(x.round(), y.round())]))


def test_a_line_at_constant_speed() -> None:
    found = measured(line(dx=30, dy=40))
    expected = {
        "duration": 1000,
        "path_length": 2500,
        "displacement": 2500,
        "straightness": 1,
        "max_deviation": 0,
        "overshoot": 0,
        "mean_speed": 2500,
        "max_speed": 2500,
        "median_speed": 2500,
        "slow_speed": 2500,
        "speed_variation": 0,
        "speed_memory": 0,
        "start_speed": 1,
        "end_speed": 1,
        "second_half_speed": 0.5,
        "max_acceleration": 0,
        "jerk": 0,
        "net_turn": 0,
        "straight_steps": 1,
        "curve_residual": 0,
        "fine_residual": 0,
        "pauses": 0,
        "x_direction_changes": 0,
        "submovements": 0,
        "interval_variation": 0,
        "interval_repeats": 1,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)


def test_a_circle() -> None:
    found = measured(circle())
    assert found["net_turn"] == pytest.approx(2 * np.pi * 99 / 100, rel=0.01)  # no turn before the first step
    assert measured(circle(turns=-2, points=201))["net_turn"] == pytest.approx(4 * np.pi * 199 / 200, rel=0.01)
    assert found["path_length"] == pytest.approx(2 * np.pi * 1000, rel=0.01)
    assert found["mean_curvature"] == pytest.approx(1 / 1000, rel=0.02)
    assert found["mean_angular_velocity"] == pytest.approx(2 * np.pi / 2, rel=0.02)  # 2 s
    assert found["straightness"] == pytest.approx(0, abs=0.01)
    assert found["max_deviation"] == pytest.approx(2000, rel=0.01)  # a closed path: from the start
    assert found["bending"] == pytest.approx(2 * np.pi / 63, rel=0.02)
    assert found["turn_direction_changes"] == 0


def test_there_and_back() -> None:
    x = np.concatenate([np.arange(0, 500, 10), np.arange(500, 300, -10), [300]]).astype(np.float64)
    found = measured(beat(x, np.zeros(len(x))))
    assert found["displacement"] == 300
    assert found["overshoot"] == 200
    assert found["path_length"] == 700
    assert found["x_direction_changes"] * found["duration"] / 1000 == pytest.approx(1)
    assert found["y_direction_changes"] == 0
    assert found["reversals"] == pytest.approx(1 / 69)


def test_a_reach_of_minimum_jerk() -> None:
    found = measured(reaching(minimum_jerk(60)))
    assert found["time_to_peak_speed"] == pytest.approx(0.5, abs=0.05)
    assert found["second_half_speed"] == pytest.approx(0.5, abs=0.01)
    assert found["max_speed"] / found["mean_speed"] == pytest.approx(1.875, rel=0.02)  # Flash & Hogan 1985
    assert found["submovements"] == 1
    assert found["speed_memory"] > 0.95


def test_two_reaches_are_two_submovements() -> None:
    one = minimum_jerk(40)
    assert measured(reaching(np.concatenate([one, 1 + one[1:]]) / 2))["submovements"] == 2
    small = np.concatenate([one, 1 + one[1:] / 30]) / (31 / 30)
    assert measured(reaching(small))["submovements"] == 1  # below a tenth of the peak


def test_pauses() -> None:
    still, move = np.zeros(5), np.full(10, 8.0)
    short = np.zeros(2)
    x = np.concatenate([[0], still, move, short, move, still[:4], move, still, still]).cumsum()
    found = measured(beat(x, np.zeros(len(x))))
    assert found["pauses"] == 3  # the one of 40 ms is none
    assert found["pause_share"] == pytest.approx(21 / 51)
    assert found["start_pause"] == 100
    assert found["end_pause"] == 200
    nowhere = measured(beat(np.full(11, 3.0), np.full(11, 4.0)))
    assert (nowhere["pauses"], nowhere["start_pause"], nowhere["end_pause"]) == (1, 200, 200)


def test_the_power_law() -> None:
    """Harmonic motion on an ellipse keeps the law exactly: Lacquaniti et al. 1983."""
    angle = np.linspace(0, 2 * np.pi, 301)
    found = measured(beat((20000 * np.cos(angle)).round(), (6000 * np.sin(angle)).round()))
    assert found["power_law_exponent"] == pytest.approx(-1 / 3, abs=0.01)
    assert found["power_law_fit"] == pytest.approx(-1, abs=0.01)


def test_the_recorders_clock() -> None:
    x = even(9, 10)
    found = measured(Trajectory(x, x, np.array([0, 8, 16, 24, 40, 48, 56, 64, 80.0])))
    gaps = [8, 8, 8, 16, 8, 8, 8, 16]
    assert found["interval_variation"] == pytest.approx(np.std(gaps) / np.mean(gaps))
    assert found["interval_repeats"] == pytest.approx(4 / 7)


def test_the_longest_movement() -> None:
    assert np.isfinite(features([walk(0, MAX_POINTS)])).all()


def test_all_at_one_time() -> None:
    """No duration: a jump to where it ended."""
    found = measured(Trajectory(even(8, 3), even(8, 4), np.full(8, 7.0)))
    assert found["duration"] == 0
    assert found["displacement"] == 35
    assert np.isfinite(list(found.values())).all()
