"""The search on synthetic machines, whose time is simulated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.tune import (
    BATCHES,
    CHUNKS,
    DELAYS,
    GAIN,
    Interrupted,
    Measurement,
    Point,
    Result,
    Settings,
    best_point,
    frontier,
    tune,
)
from tests.marserve.conftest import PATIENT

SHIPPED = Settings(workers=2, batch=16, delay=2, threads=1, chunk=4)
CORES = 4


@dataclass
class Synthetic:
    """Throughput falls with the distance of each setting from `ideal`; latency is Little's law, doubled at p99."""

    ideal: Settings = field(default_factory=lambda: Settings(4, 32, 1, 1, 8))
    failing: frozenset[Settings] = frozenset()
    noise: Sequence[float] = (1.0,)
    interrupt_at: int = 10**9
    start: float = 3.0
    now: float = 0.0
    calls: list[tuple[Settings, tuple[int, ...], float]] = field(default_factory=list)

    def rate(self, settings: Settings) -> float:
        rate = 1000.0
        for name in ("workers", "batch", "delay", "threads", "chunk"):
            own, ideal = getattr(settings, name), getattr(self.ideal, name)
            rate *= 1.0 if own is None else 0.8 ** abs(math.log2(own / (ideal or 1)))
        return rate

    def measure(self, settings: Settings, loads: Sequence[int], seconds: float) -> Measurement:
        if len(self.calls) == self.interrupt_at:
            raise Interrupted
        factor = self.noise[len(self.calls) % len(self.noise)]
        self.calls.append((settings, tuple(loads), seconds))
        self.now += self.start + seconds * len(loads)
        if settings in self.failing:
            return Measurement(settings, failure="3 of 9 replies were errors")
        points = []
        for load in loads:
            rps = factor * self.rate(settings) * load / (load + 8)
            points.append(Point(load, rps, 1000 * load / rps, 2000 * load / rps, 0.1))
        return Measurement(settings, tuple(points))

    def tune(self, slo_ms: float = 100, budget: float = 10_000, shipped: Settings = SHIPPED) -> Result:
        return tune(shipped, CORES, slo_ms, budget, self.measure, lambda: self.now)


SETTINGS = st.builds(
    Settings,
    workers=st.sampled_from([1, 2, 4]),
    batch=st.sampled_from(BATCHES),
    delay=st.sampled_from(DELAYS),
    threads=st.just(1),
    chunk=st.sampled_from(CHUNKS),
)


@given(ideal=SETTINGS, shipped=SETTINGS, noise=st.lists(st.floats(0.7, 1.4), min_size=1, max_size=7))
@PATIENT
def test_only_settings_that_the_machine_can_hold_and_none_twice(
    ideal: Settings, shipped: Settings, noise: list[float]
) -> None:
    machine = Synthetic(ideal, noise=noise)
    machine.tune(shipped=shipped)
    searched = [settings for settings, _, seconds in machine.calls if seconds == 4]
    assert len(searched) == len(set(searched))
    for settings, loads, _ in machine.calls:
        assert settings.threads
        assert settings.chunk
        assert settings == shipped or settings.workers * settings.threads <= CORES + 1
        assert min(settings.workers, settings.batch, settings.delay, settings.threads, settings.chunk) >= 1
        assert list(loads) == sorted(set(loads))
        assert 1 <= loads[0] <= loads[-1] <= 256


@given(ideal=SETTINGS, shipped=SETTINGS)
@PATIENT
def test_the_winner_is_never_slower_than_shipped(ideal: Settings, shipped: Settings) -> None:
    machine = Synthetic(ideal)
    result = machine.tune(shipped=shipped)
    assert result.winner is not None
    assert machine.rate(result.winner) >= machine.rate(shipped)
    assert result.winner == shipped or machine.rate(result.winner) > machine.rate(shipped) * 1.01


@given(noise=st.lists(st.floats(0.5, 2), min_size=1, max_size=7), budget=st.floats(1, 1000))
@PATIENT
def test_the_winner_is_as_good_as_shipped_by_the_finals_medians(noise: list[float], budget: float) -> None:
    result = Synthetic(noise=noise).tune(budget=budget)
    points = {one.settings: best_point(one, 100) for one in result.finals}
    if result.winner is not None:
        winner, shipped = points[result.winner], points[SHIPPED]
        assert winner is not None
        assert shipped is not None
        assert winner.p99_ms <= 100
        assert shipped.p99_ms > 100 or winner.rps >= shipped.rps / GAIN


@given(ideal=SETTINGS)
@PATIENT
def test_with_time_enough_it_finds_the_ideal(ideal: Settings) -> None:
    """Where the settings do not depend on each other, and a run takes no more than a batch holds."""
    if (ideal.chunk or 1) <= ideal.batch and ideal.workers == CORES:
        assert Synthetic(ideal).tune().winner == ideal


@given(budget=st.floats(60, 1000), start=st.floats(0.5, 10))
@PATIENT
def test_the_budget_is_kept(budget: float, start: float) -> None:
    machine = Synthetic(start=start)
    machine.tune(budget=budget)
    seconds = min(max(budget / 150, 1), 4)
    shipped, round_of_the_final = start + seconds * 9, 3 * (start + 2 * 6 * seconds)
    assert machine.now <= max(budget, shipped + (start + seconds * 3)) + round_of_the_final


def test_the_final_takes_turns() -> None:
    machine = Synthetic()
    result = machine.tune()
    final = [settings for settings, _, seconds in machine.calls if seconds == 8]
    assert result.rounds == 3
    assert len(final) == 9
    assert final[0] == SHIPPED
    assert final[:3] == final[5:2:-1] == final[6:]
    assert len({loads for _, loads, seconds in machine.calls if seconds == 8}) == 1


def test_shipped_settings_stay_where_nothing_is_faster_by_more_than_noise() -> None:
    assert Synthetic(SHIPPED).tune().winner == SHIPPED


def test_errors_disqualify() -> None:
    ideal = Synthetic().tune().winner
    assert ideal is not None
    result = Synthetic(failing=frozenset({ideal})).tune()
    assert result.winner not in (None, ideal)
    assert [one.settings for one in result.searched if one.failure] == [ideal]
    assert all(settings != ideal for settings, _ in frontier(result.searched))


def test_errors_in_the_final_disqualify_too() -> None:
    class Late(Synthetic):
        def measure(self, settings: Settings, loads: Sequence[int], seconds: float) -> Measurement:
            measured = super().measure(settings, loads, seconds)
            late = seconds == 8 and settings == self.ideal
            return Measurement(settings, failure="died") if late else measured

    machine = Late()
    assert machine.tune().winner not in (None, machine.ideal)


def test_a_load_counts_only_if_every_round_reached_it() -> None:
    class Fading(Synthetic):
        def measure(self, settings: Settings, loads: Sequence[int], seconds: float) -> Measurement:
            measured = super().measure(settings, loads, seconds)
            cut = seconds == 8 and len(self.calls) % 2
            return Measurement(settings, measured.points[:1] if cut else measured.points)

    assert all(len(one.points) == 1 for one in Fading().tune().finals)


def test_where_nothing_keeps_the_limit_there_is_no_winner_and_latency_is_searched() -> None:
    machine = Synthetic()
    result = machine.tune(slo_ms=1)
    assert result.winner is None
    fastest = min(point.p99_ms for one in result.searched for point in one.points)
    shipped = min(point.p99_ms for one in result.searched if one.settings == SHIPPED for point in one.points)
    assert fastest < shipped


@pytest.mark.parametrize("calls", [0, 1, 5])
def test_an_interrupted_search_keeps_what_it_found(calls: int) -> None:
    result = Synthetic(interrupt_at=calls).tune()
    assert (result.interrupted, result.winner, len(result.searched)) == (True, None, calls)


def test_an_interrupted_final_counts_its_whole_rounds() -> None:
    whole = Synthetic()
    whole.tune()
    result = Synthetic(interrupt_at=len(whole.calls) - 1).tune()
    assert (result.interrupted, result.rounds) == (True, 2)
    assert result.winner is not None


def test_a_model_without_a_network_has_no_threads_and_no_chunk() -> None:
    machine = Synthetic(Settings(4, 8, 1))
    result = machine.tune(shipped=Settings(1, 4, 1))
    assert result.winner == Settings(4, 8, 1)
    assert all(settings.threads is settings.chunk is None for settings, _, _ in machine.calls)


def test_frontier() -> None:
    points = [Point(1, 10, 1, 5, 0), Point(2, 30, 1, 9, 0), Point(4, 20, 1, 9, 0), Point(8, 25, 1, 20, 0)]
    found = frontier([Measurement(SHIPPED, tuple(points)), Measurement(SHIPPED, failure="x")])
    assert [point.rps for _, point in found] == [10, 30]
