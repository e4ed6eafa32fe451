"""/health, and workers that die, hang or grow: on a real server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from handlers.metrics import WRITING
from marserve.rates import read_samples
from marserve.rundir import RunDir
from tests.e2e.archives import current_store, read_files, with_handler, write_archive
from tests.e2e.server import Server, serving
from tests.e2e.test_boot import write_bare
from tests.paths import ROOT

CHALLENGE = {"kind": "drag_drop", "count": 4}
MOVEMENT = (ROOT / "export" / "specs" / "drag_pattern.json").read_bytes()
HANDLER = """
import time


class HangingHandler:
    def initialize(self, context):
        self.initialized = True

    def handle(self, rows, context):
        while any(bytes(row["body"]) == b"hang" for row in rows):
            time.sleep(1)
        time.sleep(0.02)
        return ["answered"] * len(rows)
"""
LEAK = b"""

_KEPT = []
_handle = Handler.handle


def _leaking(self, rows, context):
    _KEPT.append(bytearray(b"x") * 1_000_000)
    return _handle(self, rows, context)


Handler.handle = _leaking
"""


def health(server: Server) -> tuple[int, str]:
    reply = httpx.get(f"{server.metrics}/health")
    return reply.status_code, reply.json()["status"]


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def worker_pids(server: Server, model: str) -> list[int]:
    """Of those that are ready."""
    (found,) = httpx.get(f"{server.management}/models/{model}").json()
    return [worker["pid"] for worker in found["workers"] if worker["status"] == "READY"]


def replacements(server: Server) -> float:
    samples = read_samples(httpx.get(f"{server.metrics}/metrics").text)
    return sum(value for (name, _), value in samples.items() if name == "marserve_worker_replacements_total")


def replies(server: Server) -> float:
    samples = read_samples(httpx.get(f"{server.metrics}/metrics").text)
    return sum(value for (name, _), value in samples.items() if name == "marserve_replies_total")


@contextmanager
def asking(server: Server, path: str, body: bytes, clients: int = 4) -> Iterator[Counter[int | str]]:
    """Clients that ask without end; how often they got which status, or which error."""
    seen: Counter[int | str] = Counter()
    over = threading.Event()

    def ask() -> None:
        client = HTTPConnection("127.0.0.1", server.port, timeout=60)
        while not over.is_set():
            try:
                client.request("POST", path, body)
                reply = client.getresponse()
                reply.read()
                seen[reply.status] += 1
            except OSError as error:
                seen[type(error).__name__] += 1
                client.close()
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join(60)


def test_health_follows_the_workers() -> None:
    with serving("--models", "captcha_challenge") as server:
        assert f"health      {server.metrics}/health" in server.summary
        assert health(server) == (200, "ready")
        assert httpx.head(f"{server.metrics}/health").status_code == 200
        (pid,) = worker_pids(server, "captcha_challenge")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: health(server) == (503, "unavailable"))
        wait_for(lambda: health(server) == (200, "ready"))
        assert httpx.post(f"{server.url}/predictions/captcha_challenge", json=CHALLENGE).status_code == 200


def test_a_worker_that_grows_is_replaced_and_no_request_is_lost(tmp_path: Path) -> None:
    files = with_handler(read_files(current_store() / "drag_pattern.mar"), memory_limit_mb=180)
    write_archive(tmp_path / "drag_pattern.mar", {**files, "entry.py": files["entry.py"] + LEAK})
    with serving("--model-store", str(tmp_path)) as server:
        pids = worker_pids(server, "drag_pattern")
        time.sleep(2 * WRITING)  # replies to the warm-up are counted by then
        before = replies(server)
        with asking(server, "/predictions/drag_pattern", MOVEMENT) as seen:
            wait_for(lambda: replacements(server) >= 2)
        assert set(seen) == {200}
        assert worker_pids(server, "drag_pattern") == pids
        wait_for(lambda: replies(server) - before == seen[200])  # no count is lost either
        log = (RunDir(server.port).logs / "models.log").read_text()
        assert "MB resident, the limit is 180 MB (handler.memory_limit_mb)" in log


def test_a_limit_below_a_fresh_worker_is_none(tmp_path: Path) -> None:
    files = with_handler(read_files(current_store() / "drag_pattern.mar"), memory_limit_mb=10)
    write_archive(tmp_path / "drag_pattern.mar", files)
    with serving("--model-store", str(tmp_path)) as server:
        log = (RunDir(server.port).logs / "models.log").read_text()
        assert "handler.memory_limit_mb is 10, but a fresh worker takes " in log
        with asking(server, "/predictions/drag_pattern", MOVEMENT) as seen:
            time.sleep(2)  # longer than from one look at the memory to the next
        assert set(seen) == {200}
        assert replacements(server) == 0


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Server]:
    config = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 1\nmaxBatchDelay: 1\nresponseTimeout: 2\n"
    write_bare(tmp_path, "hanging", HANDLER, config)
    with serving("--model-store", str(tmp_path)) as server:
        yield server


def test_what_hangs_a_worker_is_told_so_and_disturbs_nobody(hanging: Server) -> None:
    pids = worker_pids(hanging, "hanging")
    with asking(hanging, "/predictions/hanging", b"x") as seen:
        reply = httpx.put(f"{hanging.url}/predictions/hanging", content=b"hang", timeout=60)
        wait_for(lambda: len(worker_pids(hanging, "hanging")) == 2)
    assert reply.status_code == 504
    assert reply.json()["message"] == "The worker did not answer within the model's responseTimeout."
    assert set(seen) == {200}
    assert len(set(worker_pids(hanging, "hanging")) - set(pids)) == 1


def test_a_worker_that_is_stopped_is_replaced(hanging: Server) -> None:
    """Only what it had in hand is not answered: one request, since batches are of one."""
    pids = worker_pids(hanging, "hanging")
    os.kill(pids[0], signal.SIGSTOP)
    with asking(hanging, "/predictions/hanging", b"x") as seen:
        wait_for(lambda: len({*worker_pids(hanging, "hanging")} - {*pids}) == 1)
    assert seen[504] == 1
    assert set(seen) == {200, 504}


def test_a_worker_that_is_killed_again_and_again_comes_back(hanging: Server) -> None:
    """And costs nobody a request: what it had goes to the other one."""
    with asking(hanging, "/predictions/hanging", b"x") as seen:
        for _ in range(3):
            pids = worker_pids(hanging, "hanging")
            os.kill(pids[0], signal.SIGKILL)
            wait_for(lambda: pids[0] not in (now := worker_pids(hanging, "hanging")) and len(now) == 2)  # noqa: B023
    assert set(seen) == {200}
