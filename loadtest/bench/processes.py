"""A server and all that it starts: found by a mark in their environment, measured, and ended together."""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "LOADTEST_BENCH"
_STOP_TIMEOUT = 10.0  # seconds between asking and killing


class Tree:
    """The processes of one command, in a session of their own. A context manager: none is left at its end."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log = log
        self._mark = secrets.token_hex(8)
        self._seen: set[psutil.Process] = set()  # what re-parents itself and rewrites its environment is still known
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment, MARK: self._mark},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def members(self) -> list[psutil.Process]:
        """All that live: with the mark, of the session, or started by one of them."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self._mark or os.getsid(process.pid) == self.process.pid:
                    self._seen.add(process)
        for process in list(self._seen):
            with suppress(psutil.Error):
                self._seen.update(process.children(recursive=True))
        return [process for process in self._seen if _is_alive(process)]

    def memory_mb(self) -> float:
        """Of all processes together."""
        return sum(self.memory_by_process().values())

    def memory_by_process(self) -> dict[int, float]:
        """Process id -> proportional set size in MB: what several share counts once."""
        sizes = {}
        for process in self.members():
            with suppress(psutil.Error):
                sizes[process.pid] = process.memory_full_info().pss / 2**20
        return sizes

    def last_words(self) -> str:
        """The last line of its log that says something."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line or "error" in line]
        return ((errors or lines or ["it said nothing"])[-1])[:300]

    def stop(self) -> None:
        """Ask the first process to end, then kill whatever is left."""
        self.members()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_TIMEOUT)
        deadline = time.monotonic() + _STOP_TIMEOUT
        while (left := self.members()) and time.monotonic() < deadline:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        self.process.wait()


def free_port() -> int:
    """A port whose neighbours that servers want are free too (marserve and TorchServe: +1, +2, -1010, -1009)."""
    while True:
        port = random.randrange(20000, 30000)  # noqa: S311
        if all(_is_free(port + shift) for shift in (0, 1, 2, 3, -1010, -1009)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
