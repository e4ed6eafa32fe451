"""The search for a model's fastest settings under a limit of latency. Knows nothing of servers: it is given `measure`.

Coordinate descent from the shipped settings: one setting at a time is moved up or down for as long as that pays. What
short runs found best is measured again, longer and in turns with the shipped settings, since a machine's speed drifts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

LOADS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # connections, each waiting for its reply
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
DELAYS = (1, 2, 4, 8, 16, 32)  # ms
CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128)
SHORTEST, LONGEST = 1.0, 4.0  # seconds of one load in the search; in the final it lasts twice as long
RUNS = 150  # the share of the budget that such a load is
ROUNDS = 3  # of the final
FINAL_SHARE = 0.5  # of the time, kept for the final
GAIN = 1.03  # below it a difference is noise: the search does not move, and the shipped settings stay


@dataclass(frozen=True, slots=True)
class Settings:
    """What is searched. A model without a network has no threads and no chunk."""

    workers: int
    batch: int  # requests that TorchServe gathers for a worker
    delay: int  # ms that it waits for them
    threads: int | None = None  # of one worker's session
    chunk: int | None = None  # items that one run of the session takes


@dataclass(frozen=True, slots=True)
class Point:
    """One load on one server."""

    connections: int
    rps: float
    p50_ms: float
    p99_ms: float
    generator_cpu: float  # share of a core that the load itself took: near 1, that was the limit


@dataclass(frozen=True, slots=True)
class Measurement:
    """All loads that were put on a server with these settings; a failure disqualifies them."""

    settings: Settings
    points: tuple[Point, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """`winner` is None where nothing keeps the limit; `finals` holds medians, the shipped settings first.

    Without a whole round (interrupted) there is no winner and no final.
    """

    shipped: Settings
    winner: Settings | None
    finals: tuple[Measurement, ...]
    rounds: int  # that the medians are of
    searched: tuple[Measurement, ...]
    interrupted: bool


# Settings, loads in ascending order, seconds of each -> what was measured. An error is a Measurement with a failure.
Measure = Callable[[Settings, Sequence[int], float], Measurement]


class Interrupted(Exception):  # noqa: N818
    """`measure` was asked to end: what was found until then is the result."""


def best_point(measurement: Measurement, slo_ms: float) -> Point | None:
    """The highest throughput within the limit; where no load is, the one that comes nearest; None without any."""
    return max(measurement.points, key=lambda point: _rank(point, slo_ms), default=None)


def frontier(measurements: Sequence[Measurement]) -> list[tuple[Settings, Point]]:
    """Those that no other beats in both throughput and p99, by p99."""
    points = [(one.settings, point) for one in measurements if not one.failure for point in one.points]
    kept: list[tuple[Settings, Point]] = []
    for settings, point in sorted(points, key=lambda pair: (pair[1].p99_ms, -pair[1].rps)):
        if not kept or point.rps > kept[-1][1].rps:
            kept.append((settings, point))
    return kept


def tune(
    shipped: Settings,
    cores: int,
    slo_ms: float,
    budget: float,
    measure: Measure,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Search for about `budget` seconds, the final included. The shipped settings are measured whatever it is."""
    search = _Search(shipped, cores, slo_ms, budget, measure, clock)
    interrupted = False
    try:
        search.descend()
        search.final()
    except Interrupted:
        interrupted = True
    finals, seen = tuple(search.medians()), tuple(search.seen.values())
    return Result(shipped, search.winner(), finals, len(search.rounds), seen, interrupted)


class _SpentError(Exception):
    """The time for searching is over."""


class _Search:
    def __init__(
        self,
        shipped: Settings,
        cores: int,
        slo_ms: float,
        budget: float,
        measure: Measure,
        clock: Callable[[], float],
    ) -> None:
        self._shipped = shipped
        self._cores = cores
        self._slo_ms = slo_ms
        self._deadline = clock() + budget
        self._until = self._deadline - budget * FINAL_SHARE  # of the search alone
        self._seconds = min(max(budget / RUNS, SHORTEST), LONGEST)
        self._measure = measure
        self._clock = clock
        self._longest = 0.0  # seconds of a short measurement; the next may take as long
        self.seen: dict[Settings, Measurement] = {}
        self.rounds: list[list[Measurement]] = []

    def descend(self) -> None:
        """Until no neighbour is better, or only the final's share of the time is left."""
        best, before = self._try(self._shipped, LOADS), None
        self._longest = 0.0  # no other takes that many loads
        with suppress(_SpentError):
            while best is not before:
                before = best
                for settings in _processes(best.settings, self._cores):
                    best = self._step(best, settings) or best
                for name, values in _steps(best.settings, self._slo_ms).items():
                    own = getattr(best.settings, name)
                    up = [value for value in values if value > own]
                    down = [value for value in reversed(values) if value < own]
                    best = self._slide(best, name, up) or self._slide(best, name, down) or best

    def final(self) -> None:
        """The shipped settings against the best two others, in turns whose order is reversed each time.

        All get the same loads: a stray late reply may have hidden from a short run what some of them can bear.
        """
        ranked = sorted((one for one in self.seen.values() if not one.failure), key=self._key, reverse=True)
        rivals = [one for one in ranked if one.settings != self._shipped][:2]
        field = [self._shipped, *(one.settings for one in rivals)]
        best = [best_point(self.seen[settings], self._slo_ms) for settings in field]
        tops = [point.connections for point in best if point] or [1]
        loads = sorted({load for top in tops for load in (max(1, top // 2), top)})
        for number in range(ROUNDS):
            started = self._clock()
            turns = field if number % 2 == 0 else field[::-1]
            self.rounds.append([self._measure(settings, loads, 2 * self._seconds) for settings in turns])
            if 2 * self._clock() - started > self._deadline:  # another round of that length would end too late
                break

    def medians(self) -> list[Measurement]:
        """Of the final's rounds, load by load; nothing before the first."""
        medians = []
        for settings in (one.settings for one in next(iter(self.rounds), [])):
            runs = [one for results in self.rounds for one in results if one.settings == settings]
            failure = next((one.failure for one in runs if one.failure), "")
            points = []
            for load in sorted({point.connections for one in runs for point in one.points}):
                same = [point for one in runs for point in one.points if point.connections == load]
                if len(same) == len(runs):  # a load that failed in one round, or came not to its turn, does not count
                    points.append(_median(same))
            medians.append(Measurement(settings, tuple(points), failure))
        return medians

    def winner(self) -> Settings | None:
        """Of the final, or None: the shipped settings, unless others are faster by more than noise."""
        within = [one for one in self.medians() if not one.failure and self._key(one)[0]]
        if not within:
            return None
        best = max(within, key=self._key)
        shipped = next((one for one in within if one.settings == self._shipped), None)
        return self._shipped if shipped and not self._better(best, shipped) else best.settings

    def _slide(self, best: Measurement, name: str, values: Sequence[int]) -> Measurement | None:
        """One setting moved along `values` for as long as that is better; None where the first is not."""
        found = None
        for value in values:
            step = self._step(found or best, replace(best.settings, **{name: value}))
            if step is None:
                break
            found = step
        return found

    def _step(self, best: Measurement, settings: Settings) -> Measurement | None:
        """The settings' measurement, if it is the better one."""
        if self._clock() + self._longest > self._until:
            raise _SpentError
        candidate = self._try(settings, self._around(best))
        return candidate if self._better(candidate, best) else None

    def _try(self, settings: Settings, loads: Sequence[int]) -> Measurement:
        """Measured once, however often the search comes by."""
        if settings not in self.seen:
            started = self._clock()
            self.seen[settings] = self._measure(settings, loads, self._seconds)
            self._longest = max(self._longest, self._clock() - started)
        return self.seen[settings]

    def _around(self, best: Measurement) -> list[int]:
        point = best_point(best, self._slo_ms)
        top = point.connections if point else LOADS[0]
        return [load for load in (top // 2, top, 2 * top) if load and load <= LOADS[-1]]

    def _better(self, one: Measurement, other: Measurement) -> bool:
        """By more than noise."""
        (within, figure), (was_within, old) = self._key(one), self._key(other)
        if within != was_within:
            return within
        return figure > (old * GAIN if within else old / GAIN)

    def _key(self, one: Measurement) -> tuple[bool, float]:
        point = None if one.failure else best_point(one, self._slo_ms)
        return _rank(point, self._slo_ms) if point else (False, float("-inf"))


def _median(points: Sequence[Point]) -> Point:
    """Of each figure by itself; the load is the same."""
    names = ("connections", "rps", "p50_ms", "p99_ms", "generator_cpu")
    return Point(*(statistics.median(getattr(point, name) for point in points) for name in names))


def _rank(point: Point, slo_ms: float) -> tuple[bool, float]:
    """Within the limit more throughput is better; out of it, less latency."""
    return (True, point.rps) if point.p99_ms <= slo_ms else (False, -point.p99_ms)


def _processes(at: Settings, cores: int) -> list[Settings]:
    """Ways to share the cores among workers and their threads, and one worker more than cores, while others wait."""
    if at.threads is None:
        return [replace(at, workers=workers) for workers in sorted({1, max(1, cores // 2), cores, cores + 1})]
    sizes = {2**power for power in range(cores.bit_length())} | {max(1, cores - 1), cores}
    pairs = {(workers, cores // workers) for workers in sizes} | {(1, 1), (cores + 1, 1)}
    return [replace(at, workers=workers, threads=threads) for workers, threads in sorted(pairs)]


def _steps(at: Settings, slo_ms: float) -> dict[str, list[int]]:
    """What the other settings may be."""
    steps = {"batch": list(BATCHES), "delay": [delay for delay in DELAYS if delay < max(2, slo_ms)]}
    if at.chunk is None:
        return steps
    # A run takes no more than a batch holds: beyond that nothing would change.
    return {"chunk": [chunk for chunk in CHUNKS if chunk <= max(at.batch, at.chunk)], **steps}
