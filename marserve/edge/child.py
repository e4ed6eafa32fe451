"""An edge that `marserve serve` runs before itself: a process of its own, ready after the server and gone before it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from marserve.deaths import Deaths, tell
from marserve.edge.process import EdgeDir, find_haproxy
from marserve.edge.run import Options, plan
from marserve.edge.spec import read_spec
from marserve.errors import MarserveError

START_TIMEOUT = 30.0  # seconds


class Edge:
    """Started by the constructor, and again by `tend` when it has ended by itself."""

    def __init__(self, command: Sequence[str], rundir: EdgeDir, deaths: Deaths) -> None:
        self._command = command
        self._rundir = rundir
        self._deaths = deaths
        self._process = self._start()
        self._died: float | None = None  # when it did, until it is ready again

    def wait_until_ready(self) -> None:
        """Raises MarserveError where it does not get ready."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise MarserveError("the edge does not start: the server is stopped")
            time.sleep(0.05)

    def tend(self) -> None:
        """Returns at once: the server goes on. Raises MarserveError where it ends too often."""
        if (code := self._process.poll()) is not None:
            self._deaths.count(code, ": the server is stopped")
            self._died = time.monotonic()
            self._process = self._start()
        elif self._died is not None and self._ready():
            tell(f"the edge is ready again after {time.monotonic() - self._died:.1f} s")
            self._died = None

    def stop(self) -> None:
        """Wait until its requests have been answered."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        sys.stdout.flush()
        return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)

    def _ready(self) -> bool:
        state = self._rundir.running()
        return state is not None and state.pid == self._process.pid and state.ready


def check(config: Path, port: int | None, server_config: Path, server_port: int) -> float:
    """The seconds that it may take to end. Raises MarserveError for what would keep it from starting."""
    find_haproxy()
    return plan(Options(str(config), port, str(server_config), server_port)).spec.limits.drain_seconds


@contextmanager
def running(config: Path, port: int | None, server_config: Path, server_port: int, deaths: Deaths) -> Iterator[Edge]:
    """From when it is ready until its requests have been answered. Raises MarserveError where it does not start."""
    command = [sys.executable, "-P", "-m", "marserve", "edge", "start", "--config", str(config)]
    command += ["--server-config", str(server_config), "--server-port", str(server_port), "--parent", str(os.getpid())]
    command += ["--port", str(port)] if port is not None else []
    edge = Edge(command, EdgeDir(read_spec(config).moved(port).rest.port), deaths)
    try:
        edge.wait_until_ready()
        yield edge
    finally:
        edge.stop()
