"""A growing part of the traffic for a new version, until it is the default or has shown that it is not good enough.

The edge splits, by a share that it forgets within seconds unless it is told again: a rollout that is killed leaves the
version before with all requests. The edge's log says how the versions answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from marserve.background import StopFlag
from marserve.edge import split
from marserve.edge.process import EdgeDir
from marserve.errors import MarserveError
from marserve.rollout.access import Tail, read
from marserve.rollout.judge import Limits, Tally, judge

T = TypeVar("T")

TICK = 0.5  # seconds between two looks
MOST_HOLDS = 10  # times the hold that a step waits for `min_requests`
HANG = 5  # times `max_p99` without an answer to what is in flight, and HANG_LEAST seconds
HANG_LEAST, HANG_UNKNOWN = 2.0, 10.0
EDGE_BACK = 10.0  # seconds that an edge may be away
LEFTOVERS = 60.0  # seconds that requests to an earlier candidate may still take


@dataclass(frozen=True, slots=True)
class Options:
    """`steps` are shares from 0 to 1, `hold` is in seconds."""

    steps: Sequence[float]
    hold: float
    limits: Limits

    @property
    def patience(self) -> float:
        """Seconds without an answer after which a version hangs."""
        p99 = self.limits.max_p99
        return HANG_UNKNOWN if p99 is None else max(HANG_LEAST, HANG * p99 / 1000)


@dataclass(slots=True)
class Step:
    """One share, and how both versions answered while it held."""

    share: float
    hold: float
    seconds: float = 0.0
    new: Tally = field(default_factory=Tally)
    old: Tally = field(default_factory=Tally)

    def figures(self) -> dict[str, Any]:
        """For reports."""
        seconds = round(self.seconds, 1)
        return {"share": self.share, "seconds": seconds, "new": self.new.figures(), "old": self.old.figures()}


@dataclass(slots=True)
class Outcome:
    """`reason` says why the version before keeps serving; empty where it does not."""

    steps: list[Step] = field(default_factory=list)
    reason: str = ""


class Canary:
    """One model's, at one edge. `run` comes back when the version has passed every step, or has failed."""

    def __init__(self, edge: EdgeDir, model: str, old: str, new: str, options: Options) -> None:
        self._edge, self._model, self._old, self._new = edge, model, old, new
        self._options = options
        self._before = Tally()  # the old version's, of all steps

    def run(
        self,
        default: Callable[[], str],
        promote: Callable[[], object],
        stopping: StopFlag,
        show: Callable[[Step], None],
    ) -> Outcome:
        """`default` asks for the default version, `promote` makes the new one that. Both raise MarserveError.

        The share is taken back in any case; after a promotion that changes nothing.
        """
        outcome = Outcome()
        try:
            self._wait_for_room(stopping)
            with Tail(self._edge.read_access_log_file()) as tail:
                for share in self._options.steps:
                    outcome.steps.append(Step(share, self._options.hold))
                    for reason in self._hold(outcome.steps[-1], tail):
                        show(outcome.steps[-1])
                        if reason or stopping:
                            outcome.reason = reason or "it was interrupted"
                            return outcome
                        if (now := default()) != self._old:
                            outcome.reason = f"version {now} has become the default meanwhile"
                            return outcome
                promote()
        except MarserveError as error:
            outcome.reason = str(error)
        finally:
            with suppress(MarserveError):  # an edge that is gone has no share left; any other forgets it
                split.clear(self._edge, self._model)
        return outcome

    def _wait_for_room(self, stopping: StopFlag) -> None:
        """What an earlier candidate has left unanswered would be taken for this one's. Raises MarserveError."""
        deadline = time.monotonic() + LEFTOVERS
        while (left := split.in_flight(self._edge, self._model)) and not stopping:
            if time.monotonic() > deadline:
                raise MarserveError(f"{left} requests to an earlier candidate are unanswered still: try again later")
            time.sleep(TICK)

    def _hold(self, step: Step, tail: Tail) -> Iterator[str]:
        """After each look, why the version is not good enough; ends when the step has been passed."""
        limits = self._options.limits
        began = answered = time.monotonic()
        while True:
            self._at_edge(lambda: split.set_share(self._edge, self._model, self._new, step.share))
            time.sleep(TICK)
            before = step.new.requests
            self._count(step, tail)
            now = time.monotonic()
            step.seconds = now - began
            if step.new.requests > before or not self._at_edge(lambda: split.in_flight(self._edge, self._model)):
                answered = now
            if now - answered > self._options.patience:
                yield f"it has not answered for {now - answered:.0f} s: it hangs"
            yield judge(step.new, self._before, limits)
            if step.seconds >= step.hold and step.new.requests >= limits.min_requests:
                return
            if step.seconds >= MOST_HOLDS * step.hold:
                yield (
                    f"{step.new.requests} requests in {step.seconds:.0f} s are too few to judge by: "
                    f"hold each step for longer, or lower --min-requests ({limits.min_requests})"
                )

    def _at_edge(self, ask: Callable[[], T]) -> T:
        """An edge that has died is started again by who watches it. Raises MarserveError where it stays away."""
        deadline = time.monotonic() + EDGE_BACK
        while True:
            try:
                return ask()
            except MarserveError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(TICK)

    def _count(self, step: Step, tail: Tail) -> None:
        for line in tail.lines():
            if found := read(line, self._model):
                version, answer = found
                if version == self._new:
                    step.new.add(answer)
                elif version == "-":
                    step.old.add(answer)
                    self._before.add(answer)
