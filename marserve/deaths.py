"""How often a process may die by itself: each time it is started again, unless that happens too often."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from marserve.errors import MarserveError

MOST = 3  # within PERIOD; one more is too many
PERIOD = 60.0  # seconds


class Deaths:
    """Of one process and those that came in its place."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.what = what
        self._clock = clock
        self._times: deque[float] = deque(maxlen=MOST)
        self.total = 0

    def count(self, code: int, hint: str = "") -> None:
        """One more, with what `Popen.returncode` says; tells it on standard output.

        Raises MarserveError, with `hint` at its end, where that is too often.
        """
        now = self._clock()
        ended = f"{self.what} ended by itself ({how(code)})"
        if len(self._times) == MOST and now - self._times[0] < PERIOD:
            raise MarserveError(f"{ended}, for the {MOST + 1}th time within {PERIOD:.0f} s{hint}")
        self._times.append(now)
        self.total += 1
        tell(f"{ended}: it is started again")


def tell(text: str) -> None:
    """On standard output. Where nobody is left to read it, as after a terminal was closed, all goes on the same."""
    with suppress(OSError):
        print(text, flush=True)


def how(code: int) -> str:
    """`exit code 1`, or `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
