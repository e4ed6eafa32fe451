"""Start and stop a real `marserve serve` on free ports, as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.processes import free_port
from tests.e2e.archives import current_store
from tests.paths import ROOT

MARSERVE = [sys.executable, "-m", "marserve"]


@dataclass(frozen=True, slots=True)
class Server:
    process: subprocess.Popen[str]
    port: int
    summary: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def management(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def metrics(self) -> str:
        return f"http://127.0.0.1:{self.port + 2}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.port - 1010}"

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """`marserve serve` in the foreground on free ports, ready; interrupted at the end."""
    port = free_port()
    store = [] if "--model-store" in arguments else ["--model-store", str(current_store())]
    process = subprocess.Popen(
        [*MARSERVE, "serve", "--port", str(port), *store, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith("logs"):
                break
        else:
            raise AssertionError(f"marserve serve ended with {process.wait()}:\n{''.join(lines)}")
        yield Server(process, port, "".join(lines))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def failing(*arguments: str, timeout: float = 60) -> tuple[int, str, float]:
    """A `marserve serve` that must not come up: exit code, standard error, seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [*MARSERVE, "serve", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.returncode, done.stderr, time.monotonic() - started


def java_of(port: int) -> int:
    """The process id of that server's TorchServe; 0 where there is none."""
    found = [pid for pid in processes_of(port) if b"ModelServer" in _command_line(pid)]
    return found[0] if found else 0


def _command_line(pid: int) -> bytes:
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return b""


def processes_of(port: int) -> list[int]:
    """Every process, workers and Java included, that knows the run folder of that server."""
    marker = f"marserve-{os.getuid()}/{port}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if marker in seen:
                found.append(int(entry.name))
    return found
