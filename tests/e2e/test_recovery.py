"""What is killed comes back: TorchServe as it was last seen, the edge, and HAProxy; unless that happens too often."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from loadtest.bench.processes import free_port
from marserve.deaths import MOST
from marserve.rates import read_samples
from marserve.rundir import RunDir
from tests.e2e.archives import current_store, read_files, write_archive
from tests.e2e.edge import edges_processes
from tests.e2e.server import Server, java_of, processes_of, serving
from tests.e2e.test_boot import write_bare
from tests.e2e.test_reliability import health, wait_for
from tests.e2e.test_state import manage, served
from tests.tools import need

MODEL = "captcha_challenge"
CHALLENGE = {"kind": "drag_drop", "count": 4}


@dataclass(slots=True)
class Behind:
    """A server, its edge, and what they have printed since they were ready."""

    server: Server
    edge_port: int
    store: Path
    said: list[str]

    @property
    def edge(self) -> str:
        return f"http://127.0.0.1:{self.edge_port}"

    def edge_pid(self) -> int:
        """Of the edge's own process, which HAProxy's master process is the only child of."""
        (pid,) = [pid for pid in children(self.server.process.pid) if pid != java_of(self.server.port)]
        return pid

    def asks(self) -> int:
        """The status of a request through the edge; 0 where it is not there."""
        try:
            return httpx.post(f"{self.edge}/predictions/{MODEL}", json=CHALLENGE, timeout=30).status_code
        except httpx.TransportError:
            return 0

    def wait_for_line(self, *words: str) -> str:
        wait_for(lambda: any(all(word in line for word in words) for line in self.said), 60)
        return next(line for line in self.said if all(word in line for word in words))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """One of two models is served (so that what is not on disk alone is what comes back), behind an edge."""
    need("haproxy")
    folder, edge_port = tmp_path_factory.mktemp("recovery"), free_port()
    store = folder / "store"
    store.mkdir()
    for name in (MODEL, "ticket_slice"):
        shutil.copy(current_store() / f"{name}.mar", store)
    (folder / "edge.yaml").write_text("{}\n")
    edge = ("--edge", str(folder / "edge.yaml"), "--edge-port", str(edge_port))
    with serving("--model-store", str(store), "--models", MODEL, *edge) as server:
        assert server.process.stdout is not None
        lines = server.process.stdout
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(iter(lines.readline, "")))
        reader.start()
        found = Behind(server, edge_port, store, said)
        wait_for(lambda: found.asks() == 200)
        yield found
        if server.process.poll() is None:
            server.interrupt()
        reader.join()


def test_torchserve_comes_back_as_it_was_last_seen(behind: Behind) -> None:
    """In the middle of a canary: with the second version, and with the default that was set last."""
    server = behind.server
    files = read_files(behind.store / f"{MODEL}.mar")
    manifest = json.loads(files["MAR-INF/MANIFEST.json"])
    manifest["model"]["modelVersion"] = "2.0"
    write_archive(behind.store / "second.mar", {**files, "MAR-INF/MANIFEST.json": json.dumps(manifest).encode()})
    manage(server, "POST", "", url="second.mar", initial_workers=1, synchronous="true")
    wait_for(lambda: health(server) == (200, "ready"))
    manage(server, "PUT", f"/{MODEL}/2.0/set-default")
    wait_for(lambda: httpx.get(f"{server.metrics}/health").json()["models"][MODEL]["version"] == "2.0")
    before, java = served(server.port), java_of(server.port)
    assert (before[f"{MODEL}/2.0"][0], len(before)) == (True, 2)
    path = Path(os.environ["XDG_STATE_HOME"], "marserve", f"{server.port}.json")
    path.unlink()  # as on a full disk: what it has seen it knows
    os.kill(java, signal.SIGKILL)
    wait_for(lambda: health(server) == (503, "starting"))
    assert read_samples(httpx.get(f"{server.metrics}/metrics").text)  # the page outlives it
    wait_for(lambda: health(server) == (200, "ready"))
    assert served(server.port) == before
    assert java_of(server.port) != java
    behind.wait_for_line("TorchServe ended by itself (SIGKILL): it is started again")
    behind.wait_for_line("TorchServe is ready again after", f"{MODEL} 2.0 as the default")
    wait_for(lambda: behind.asks() == 200)
    logs = RunDir(server.port).logs
    assert (logs / "java.log").exists()
    assert (logs / "java.log.1").exists()
    samples = read_samples(httpx.get(f"{server.metrics}/metrics").text)
    assert samples["marserve_deaths_total", frozenset({("process", "TorchServe")})] == 1


def test_haproxy_comes_back(behind: Behind) -> None:
    """Whether it is its worker or its master process that dies, or one that has only just come; the edge stays."""
    edge, killed = behind.edge_pid(), edges_processes(behind.edge_port)
    os.kill(max(killed), signal.SIGKILL)
    behind.wait_for_line("HAProxy ended by itself (exit code 137): it is started again")
    wait_for(lambda: behind.asks() == 200)
    for times in range(1, MOST):
        wait_for(lambda: bool(set(children(edge)) - set(killed)))
        killed.extend(children(edge))
        os.kill(killed[-1], signal.SIGKILL)
        wait_for(lambda: sum("HAProxy ended by itself (SIGKILL)" in line for line in behind.said) == times)  # noqa: B023
    wait_for(lambda: behind.asks() == 200)
    assert behind.edge_pid() == edge


def test_the_edge_comes_back(behind: Behind) -> None:
    pid, java = behind.edge_pid(), java_of(behind.server.port)
    os.kill(pid, signal.SIGKILL)
    behind.wait_for_line("the edge ended by itself (SIGKILL): it is started again")
    assert httpx.post(f"{behind.server.url}/predictions/{MODEL}", json=CHALLENGE).status_code == 200
    behind.wait_for_line("the edge is ready again after")
    assert behind.asks() == 200
    assert java_of(behind.server.port) == java


def test_what_dies_too_often_is_given_up(behind: Behind) -> None:
    """Also while it is only just being started."""
    server, killed = behind.server, {0}
    while server.process.poll() is None:
        if (java := java_of(server.port)) not in killed:
            os.kill(java, signal.SIGKILL)
            killed.add(java)
        assert len(killed) <= 2 + MOST
    assert server.process.wait() == 1
    behind.wait_for_line("error: TorchServe ended by itself (SIGKILL), for the 4th time within 60 s (logs: ")
    assert processes_of(server.port) == []
    assert edges_processes(behind.edge_port) == []


def test_an_end_while_it_is_started_again_leaves_nothing(tmp_path: Path) -> None:
    handler = "import time\n\nclass Slow:\n    def initialize(self, context):\n        time.sleep(2)\n"
    handler += "        self.initialized = True\n\n    def handle(self, rows, context):\n        return rows\n"
    write_bare(tmp_path, "slow", handler, "minWorkers: 1\nmaxWorkers: 1\n")
    with serving("--model-store", str(tmp_path)) as server:
        before = java_of(server.port)
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: java_of(server.port) not in (0, before))
        assert server.interrupt() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read().splitlines() == [
            "TorchServe ended by itself (SIGKILL): it is started again",
            "stopped",
        ]
        assert processes_of(server.port) == []
