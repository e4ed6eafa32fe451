"""Commands that run until they are asked to end: in the foreground, or detached, known by their run folders."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from types import FrameType
from typing import Protocol

from marserve.errors import MarserveError
from marserve.rundir import RunDir

prctl = ctypes.CDLL(None).prctl  # found here: that takes a lock, which a thread may have when another one forks


class Flag(Protocol):
    def __bool__(self) -> bool: ...


class StopFlag:
    """Set by the first signal that asks for the end; the second asks for it at once. Nothing is raised: an exception
    out of a handler could strike between a process and the line that knows how to stop it."""

    def __init__(self) -> None:
        self._signals = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup the hang-up stays ignored
                signal.signal(number, self._set)

    def __bool__(self) -> bool:
        return self._signals > 0

    @property
    def at_once(self) -> bool:
        return self._signals > 1

    def _set(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._signals += 1


def start(command: Sequence[str], rundir: RunDir, timeout: float) -> str:
    """Run it in a session of its own until it says that it is ready; what it has printed until then.

    Raises MarserveError with its reason where it ends before, or is stopped since `timeout` seconds are over.
    """
    with rundir.output.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    stopping = StopFlag()
    deadline = time.monotonic() + timeout
    try:
        while child.poll() is None:
            state = rundir.running()
            if state is not None and state.pid == child.pid and state.ready:
                return rundir.output.read_text()
            if stopping or time.monotonic() > deadline:
                child.terminate()
                child.wait()
                why = "interrupted" if stopping else f"not ready after {timeout:.0f} s"
                raise MarserveError(f"{why}: the server is stopped")
            time.sleep(0.05)
        raise MarserveError(rundir.output.read_text().strip().removeprefix("error: ") or "the server ended at once")
    finally:
        rundir.output.unlink(missing_ok=True)


def stop(rundir: RunDir, timeout: float) -> None:
    """Ask the process that holds the folder to end, and wait for its grace period and `timeout` seconds more.

    Raises MarserveError where there is none, or it is still there then.
    """
    state = rundir.running()
    if state is None:
        raise MarserveError(f"no {rundir.what} of yours is running on port {rundir.port}")
    os.kill(state.pid, signal.SIGTERM)
    patience = state.grace + timeout
    deadline = time.monotonic() + patience
    while rundir.running() is not None:
        if time.monotonic() > deadline:
            raise MarserveError(f"process {state.pid} has not ended after {patience:.0f} s")
        time.sleep(0.05)


def die_with_parent() -> None:
    """In a new process: be asked to end when the one that started it is gone, however it went (Linux, prctl(2))."""
    pr_set_pdeathsig = 1
    prctl(pr_set_pdeathsig, signal.SIGTERM)
