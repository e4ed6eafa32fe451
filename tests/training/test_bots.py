"""Bots take the place of a person's movement: its ends, its time, its points; what they leave open is drawn anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.ragged import Floats
from handlers.trajectory import MIN_POINTS, Trajectory, features
from training.bots import CLOSED, FAMILIES, LAWS, _law, synthesise

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)


def reach(points: int = 60, seed: int = 0, rests: bool = True) -> Trajectory:
    """To the right and down, as by hand, begun at (200, 300) and at some time; with a rest at both ends."""
    random = np.random.default_rng(seed)
    moving = np.clip(np.linspace(-0.1, 1.1, points), 0, 1) if rests else np.linspace(0, 1, points)
    share = moving**3 * (10 - 15 * moving + 6 * moving**2)
    bow = 30 * np.sin(np.pi * share)
    t = 5000 + np.concatenate(([0], random.integers(4, 20, points - 1))).cumsum()
    return Trajectory((200 + 600 * share + bow).round(), (300 + 200 * share - bow).round(), t.astype(np.float64))


def loop(points: int = 80) -> Trajectory:
    angle = np.linspace(0.3, 0.3 + 2 * np.pi, points)
    x, y = 500 + 150 * np.cos(angle), 400 + 100 * np.sin(angle)
    return Trajectory(x.round(), y.round(), np.linspace(0, 16.0 * points, points), "touch")


def distance(a: Trajectory, b: Trajectory, index: int) -> float:
    return float(np.hypot(a.x[index] - b.x[index], a.y[index] - b.y[index]))


def check(bot: Trajectory, human: Trajectory, slack: float) -> None:
    """`slack` is how far the duration may be off, as a share."""
    assert len(bot.x) == len(bot.y) == len(bot.t) == len(human.t)
    assert bot.pointer == human.pointer
    assert np.isfinite((bot.x, bot.y, bot.t)).all()
    assert (np.diff(bot.t) >= 0).all()
    assert bot.t[0] == 0
    duration = human.t[-1] - human.t[0]
    assert abs(bot.t[-1] - duration) <= slack * duration + 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(12))
def test_a_bot_goes_where_the_person_went(family: str, seed: int) -> None:
    human = reach(seed=seed)
    bot = synthesise(family, human, np.random.default_rng(seed))
    check(bot, human, 0.25 if family == "replay" else 0.05)
    for end in (0, -1):
        assert distance(bot, human, end) < 0.05 * np.hypot(600, 200) + 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(12))
def test_a_bot_draws_the_loop_that_the_person_drew(family: str, seed: int) -> None:
    human = loop()
    bot = synthesise(family, human, np.random.default_rng(seed))
    check(bot, human, 0.25 if family == "replay" else 0.05)
    for mine, theirs in ((bot.x, human.x), (bot.y, human.y)):
        assert np.abs([mine.min() - theirs.min(), mine.max() - theirs.max()]).max() < 0.4 * np.ptp(theirs) + 10
    length = np.hypot(np.diff(bot.x), np.diff(bot.y)).sum()
    assert np.hypot(bot.x[-1] - bot.x[0], bot.y[-1] - bot.y[0]) < 1.5 * CLOSED * length
    assert distance(bot, human, 0) < 0.4 * np.ptp(human.x)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_decides_everything(family: str) -> None:
    first, again, other = (synthesise(family, reach(), np.random.default_rng(seed)) for seed in (3, 3, 4))
    for axis in "xyt":
        np.testing.assert_array_equal(getattr(first, axis), getattr(again, axis))
    assert any((getattr(first, axis) != getattr(other, axis)).any() for axis in "xyt")


@st.composite
def movements(draw: st.DrawFn) -> Trajectory:
    """Whole pixels, some that go nowhere, some without duration."""
    count = draw(st.integers(MIN_POINTS, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, y = (random.normal(0, draw(st.sampled_from([0, 1, 30])), (2, count))).cumsum(axis=1).round()
    t = random.uniform(0, draw(st.sampled_from([0, 5, 100])), count).cumsum()
    return Trajectory(x, y, t)


@PATIENT
@given(movements(), st.integers(0, 2**32 - 1))
def test_any_movement_has_bots_that_can_be_measured(human: Trajectory, seed: int) -> None:
    random = np.random.default_rng(seed)
    bots = [synthesise(family, human, random) for family in FAMILIES]
    for bot in bots:
        assert np.isfinite((bot.x, bot.y, bot.t)).all()
        assert len(bot.t) == len(human.t)
        assert (np.diff(bot.t) >= 0).all()
    assert np.isfinite(features(bots)).all()


def kept(family: str, test: object) -> set[bool]:
    """What a test on the bot says, over many draws."""
    assert callable(test)
    return {bool(test(synthesise(family, reach(), np.random.default_rng(seed)))) for seed in range(40)}


def test_what_would_betray_all_bots_is_drawn() -> None:
    human = reach()
    assert kept("linear", lambda bot: (bot.x == bot.x.round()).all()) == {True, False}
    assert kept("linear", lambda bot: np.array_equal(bot.t, human.t - human.t[0])) == {True, False}
    assert kept("linear", lambda bot: distance(bot, bot, 0) == 0 and bot.x[1] == bot.x[0]) == {True, False}


def beside(bot: Trajectory) -> Floats:
    """Distances from the line through the reach's ends, px."""
    along = np.array([600, 200]) / np.hypot(600, 200)
    return np.asarray(np.abs((bot.x - 200) * along[1] - (bot.y - 300) * along[0]))


def test_the_families_are_what_they_are_called() -> None:
    for seed in range(20):
        linear, overshooting, own_speed, replay = (
            synthesise(family, reach(), np.random.default_rng(seed))
            for family in ("linear", "overshooting", "human_speed", "replay")
        )
        assert beside(linear).max() <= 12  # noise of 3 px at most, on some
        along = (overshooting.x - 200) * 600 + (overshooting.y - 300) * 200
        assert along.max() > 1.02 * (600**2 + 200**2)
        np.testing.assert_array_equal(own_speed.t, reach().t - 5000)
        assert np.hypot(replay.x - reach().x, replay.y - reach().y).max() < 20
    straight = [beside(synthesise("linear", reach(), np.random.default_rng(seed))).max() for seed in range(20)]
    assert np.median(straight) <= 1
    curved = [beside(synthesise("bezier", reach(), np.random.default_rng(seed))).max() for seed in range(20)]
    assert np.median(curved) > 20


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("seed", range(8))
def test_a_law_leads_from_start_to_end_and_never_back(law: str, seed: int) -> None:
    share = np.linspace(0, 1, 101)
    progress = _law(law, share, np.random.default_rng(seed))
    assert (progress[0], progress[-1]) == (pytest.approx(0, abs=1e-9), pytest.approx(1))
    assert (np.diff(progress) >= 0).all()
