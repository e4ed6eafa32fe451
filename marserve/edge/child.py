"""An edge that `marserve serve` runs before itself: a process of its own, ready after the server and gone before it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marserve.edge.process import EdgeDir, find_haproxy
from marserve.edge.run import Options, plan
from marserve.edge.spec import read_spec
from marserve.errors import MarserveError

START_TIMEOUT = 30.0  # seconds


def check(config: Path, port: int | None, server_config: Path, server_port: int) -> float:
    """The seconds that it may take to end. Raises MarserveError for what would keep it from starting."""
    find_haproxy()
    return plan(Options(str(config), port, str(server_config), server_port)).spec.limits.drain_seconds


@contextmanager
def running(config: Path, port: int | None, server_config: Path, server_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """From when it is ready until its requests have been answered. Raises MarserveError where it does not start."""
    rundir = EdgeDir(read_spec(config).moved(port).rest.port)
    command = [sys.executable, "-P", "-m", "marserve", "edge", "start", "--config", str(config)]
    command += ["--server-config", str(server_config), "--server-port", str(server_port), "--parent", str(os.getpid())]
    command += ["--port", str(port)] if port is not None else []
    sys.stdout.flush()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while (state := rundir.running()) is None or state.pid != child.pid or not state.ready:
            if child.poll() is not None or time.monotonic() > deadline:
                raise MarserveError("the edge does not start: the server is stopped")
            time.sleep(0.05)
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
        child.wait()
