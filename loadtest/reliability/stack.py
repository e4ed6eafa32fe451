"""A server behind its edge, started for one trial and gone after it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.processes import Tree, free_port
from loadtest.bench.store import ROOT
from loadtest.bench.workers import workers
from loadtest.errors import LoadTestError
from marserve.archive import Archive, find_archives
from marserve.edge.process import EdgeDir
from marserve.rundir import RunDir

START_TIMEOUT = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and where."""

    server: str  # http://host:port, TorchServe itself
    edge: str
    management: str
    archives: Sequence[Archive]
    server_tree: Tree
    edge_tree: Tree
    environment: Mapping[str, str]  # what commands need to find them

    @property
    def ports(self) -> tuple[int, int]:
        """REST of the server, and of the edge."""
        return int(self.server.rpartition(":")[2]), int(self.edge.rpartition(":")[2])

    @property
    def grpc(self) -> str:
        """The edge's, host:port."""
        return f"127.0.0.1:{self.ports[1] - 1010}"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A `marserve` command for this stack."""
        command = [sys.executable, "-P", "-m", "marserve", *arguments]
        environment = {**os.environ, **self.environment}
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def workers(self) -> dict[int, str]:
        """Process id -> model, of workers that TorchServe knows."""
        return workers(self.management, [archive.name for archive in self.archives])

    def front_end(self) -> int:
        """The process id of TorchServe's own process."""
        return next(int(one.pid) for one in self.server_tree.members() if one.name() == "java")

    def haproxy(self) -> tuple[int, int]:
        """The process ids of HAProxy's master process and of its worker."""
        master, worker = sorted(one.pid for one in self.edge_tree.members() if one.name() == "haproxy")
        return master, worker

    def memory_mb(self) -> float:
        """Of all processes, proportional set size."""
        return self.server_tree.memory_mb() + self.edge_tree.memory_mb()


@contextmanager
def running(model_store: Path, models: Sequence[str], edge: str = "") -> Iterator[Stack]:
    """A stack of these models; `edge` is the text of its edge.yaml. Raises LoadTestError where it does not start."""
    archives = find_archives(model_store, list(models))
    port, edge_port = free_port(), free_port()
    marserve = [sys.executable, "-P", "-m", "marserve"]
    config = ["--config", str(ROOT / "config.properties"), "--port", str(port)]
    serve = [*marserve, "serve", "--model-store", str(model_store.resolve()), "--no-overrides", *config]
    serve += [word for name in models for word in ("--models", name)]
    with tempfile.TemporaryDirectory(prefix="reliability-") as scratch:
        folder = Path(scratch)
        (folder / "edge.yaml").write_text(edge)
        before = [*marserve, "edge", "start", "--config", str(folder / "edge.yaml"), "--port", str(edge_port)]
        before += ["--server-config", str(ROOT / "config.properties"), "--server-port", str(port)]
        environment = {"XDG_STATE_HOME": scratch}
        with Tree(serve, environment, folder, folder / "server.log") as server:
            wait_until_ready(server, RunDir(port))
            with Tree(before, environment, folder, folder / "edge.log") as edge_tree:
                wait_until_ready(edge_tree, EdgeDir(edge_port))
                url, edge_url, management = (f"http://127.0.0.1:{number}" for number in (port, edge_port, port + 1))
                yield Stack(url, edge_url, management, archives, server, edge_tree, environment)


def wait_until_ready(tree: Tree, rundir: RunDir) -> None:
    """Raises LoadTestError where it ends instead, or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT
    while (state := rundir.running()) is None or not state.ready:
        if tree.process.poll() is not None or time.monotonic() > deadline:
            raise LoadTestError(f"it did not start: {tree.last_words()}")
        time.sleep(0.1)
