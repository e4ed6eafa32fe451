"""How a canary goes: a line for each step, and on a terminal one that changes while the step lasts."""

from __future__ import annotations

from collections.abc import Callable

from marserve.rollout.canary import Step
from marserve.rollout.judge import Tally


class Lines:
    """To be called with the present step at every look; `end` prints the last one's line."""

    def __init__(self, say: Callable[[str], None], quiet: bool) -> None:
        self._say = say
        self._quiet = quiet
        self._step: Step | None = None

    def __call__(self, step: Step) -> None:
        if step is not self._step:
            self.end()
            self._step = step
        self._say(f"{line(step)}; {max(0, step.hold - step.seconds):.0f} s to go (Ctrl-C rolls back)")

    def end(self) -> None:
        if self._step and not self._quiet:
            print(line(self._step), flush=True)
        self._step = None


def line(step: Step) -> str:
    """`  5 % for   60 s: 312 requests, 0 failed, p50 3 ms, p99 12 ms; the version before: ...`."""
    text = f"{100 * step.share:3.3g} % for {step.seconds:4.0f} s: {_figures(step.new)}"
    return f"{text}; the version before: {_figures(step.old)}" if step.old.requests else text


def _figures(tally: Tally) -> str:
    if not tally.requests:
        return "no answer yet"
    text = f"{tally.requests:,} requests, {tally.failed:,} failed"
    return f"{text}, p50 {tally.percentile(50)} ms, p99 {tally.percentile(99)} ms"
