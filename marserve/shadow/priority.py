"""The candidate gets the time that clients leave over: while it is shadowed its workers run with the idle policy.

Only root may take that back (sched(7)). For anybody else the workers are replaced afterwards, one after the other.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from marserve.boot.slots import Slots
from marserve.errors import MarserveError
from marserve.management import Management, NoAnswerError, Version
from marserve.settings import Address

REPLACE_TIMEOUT = 60.0  # seconds for one worker
NICE = 10  # of what only watches
IDLE_TIMEOUT = 5.0  # seconds that a worker may take to finish what it has


def give_way() -> None:
    """The thread that calls this lets clients' workers go first."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def find(management: Management, model: str, version: str) -> Version:
    """Raises NoAnswerError, and MarserveError where there is no such version."""
    versions = [one for one in management.versions() if one.model == model]
    found = next((one for one in versions if one.version == version), None)
    if found is None:
        known = f"it has {', '.join(one.version for one in versions)}" if versions else "no model of that name"
        raise MarserveError(f"{model} has no version {version} there: {known}")
    return found


def pids(version: Version) -> list[int]:
    return [worker.pid for worker in version.workers if worker.pid > 0]


def lower(processes: Iterable[int]) -> None:
    """All their threads; those that they start later are born so."""
    for thread in _threads(processes):
        with suppress(OSError):  # it has ended
            if os.sched_getscheduler(thread) != os.SCHED_IDLE:
                os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


def lowered(processes: Iterable[int]) -> list[int]:
    return [pid for pid in processes if any(map(_is_low, _threads([pid])))]


def restore(address: Address, slots: Path, model: str, version: str) -> str:
    """Bring a version's workers back to what they were; what was done, in words, or nothing.

    Whoever gives a version traffic calls this first: a shadow that was killed could not. Raises MarserveError.
    """
    management = Management(address)
    try:
        low = lowered(pids(find(management, model, version)))
        if not low:
            return ""
        try:
            for thread in _threads(low):
                with suppress(ProcessLookupError):
                    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        except PermissionError:
            for pid in low:
                _replace(management, slots, model, version, pid)
            return f"replaced {_workers(low)}, which had run at the lowest priority"
        return f"gave {_workers(low)} their priority back"
    except NoAnswerError as error:
        raise MarserveError(f"{model} {version} may still have workers at the lowest priority: {error}") from None
    finally:
        management.close()


def _replace(management: Management, slots: Path, model: str, version: str, pid: int) -> None:
    """End it; TorchServe starts another at once."""
    before = find(management, model, version)
    idle = time.monotonic() + IDLE_TIMEOUT
    while time.monotonic() < idle and (work := Slots(slots).work().get(pid)) and work.working:
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + REPLACE_TIMEOUT
    while pid in pids(now := find(management, model, version)) or now.ready < before.ready:
        if time.monotonic() > deadline:
            raise MarserveError(f"{model} {version}: no worker came in the place of {pid} within {REPLACE_TIMEOUT:g} s")
        time.sleep(0.1)


def _threads(processes: Iterable[int]) -> list[int]:
    found = []
    for pid in processes:
        with suppress(OSError):
            found += [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    return found


def _is_low(thread: int) -> bool:
    try:
        return os.sched_getscheduler(thread) == os.SCHED_IDLE
    except OSError:
        return False


def _workers(processes: list[int]) -> str:
    return "one worker" if len(processes) == 1 else f"{len(processes)} workers"
