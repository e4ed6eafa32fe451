"""What a version's workers cost: processor time per request, which hardly depends on who else wants the processor."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from marserve.boot.slots import Slots

_TICKS = os.sysconf("SC_CLK_TCK")


class Cost:
    """Looks at the workers from time to time; a worker counts from when it was seen first."""

    def __init__(self, slots: Path) -> None:
        self._slots = slots
        self._before: dict[int, tuple[float, int]] = {}
        self._seconds, self._requests = 0.0, 0

    def look(self, processes: Iterable[int]) -> None:
        work = Slots(self._slots).work()
        for pid in processes:
            with suppress(OSError):
                now = processor_seconds(pid), work[pid].answered if pid in work else 0
                before = self._before.get(pid, now)
                self._before[pid] = now
                self._seconds += now[0] - before[0]
                self._requests += now[1] - before[1]

    @property
    def per_request(self) -> float | None:
        """Seconds; None without a request."""
        return self._seconds / self._requests if self._requests else None


def processor_seconds(pid: int) -> float:
    """User's and system's time of a process since it began. Raises OSError where it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
