"""Models that fail, beside others: these are served, and it is said which failed and why."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtest.bench.processes import free_port
from tests.e2e.edge import PUPIL, PUPIL_CONFIG, edging, marserve
from tests.e2e.server import Server, failing, java_of, processes_of, serving
from tests.e2e.test_boot import workers, write_bare
from tests.e2e.test_reliability import wait_for

RAISING = PUPIL.replace("self.initialized = True", "raise KeyError('/a/secret')")
HANGING = PUPIL.replace("self.initialized = True", "time.sleep(3600)")
SHORT = f"{PUPIL_CONFIG}startupTimeout: 3\n"
QUIET = 4.0  # seconds, in which TorchServe would have started a worker that dies at least twice again


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Good ones and one of each kind that fails; of `older` and `newer` one of two versions does."""
    folder = tmp_path / "store"
    folder.mkdir()
    for name, version in (("good", "1.0"), ("flipped", "1.0"), ("older", "2.0"), ("newer", "1.0")):
        write_bare(folder, name, PUPIL, PUPIL_CONFIG, version)
    for name, version in (("raising", "1.0"), ("older", "1.0"), ("newer", "2.0")):
        write_bare(folder, name, RAISING, PUPIL_CONFIG, version)
    write_bare(folder, "hanging", HANGING, SHORT)
    flipped = folder / "flipped-1.0.mar"
    flipped.write_bytes(flipped.read_bytes().replace(b"hashlib", b"hashlic", 1))
    return folder


LOST = ("flipped-1.0.mar", "raising 1.0", "older 1.0", "newer 2.0", "hanging 1.0")


@pytest.fixture
def server(store: Path) -> Iterator[Server]:
    with serving("--model-store", str(store)) as running:
        yield running


def health(server: Server) -> tuple[int, str, set[str]]:
    reply = httpx.get(f"{server.metrics}/health")
    content = reply.json()
    failed = {f"{one['model']} {one['version']}" if one["model"] else one["archive"] for one in content["failed"]}
    return reply.status_code, content["status"], failed


def test_each_costs_only_itself(server: Server, store: Path, tmp_path: Path) -> None:
    told = dict(line.removeprefix("FAILED ").split(": ", 1) for line in server.summary.splitlines() if "FAILED" in line)
    assert set(told) == set(LOST)
    assert told["flipped-1.0.mar"].startswith(f"{store}/flipped-1.0.mar is damaged: 'flipped.py' does not match")
    assert told["hanging 1.0"].startswith("is not ready after 3 s (logs: ")
    for name in ("raising 1.0", "older 1.0", "newer 2.0"):
        assert told[name].startswith("does not load: KeyError: '/a/secret' (logs: ")
    (said,) = [line for line in server.summary.splitlines() if line.startswith("failed ")]
    assert all(what in said for what in LOST)

    pids = workers(server)
    assert len(pids) == 3  # those of what is served
    began = time.monotonic()
    assert health(server) == (200, "degraded", set(LOST))
    assert b"secret" not in httpx.get(f"{server.metrics}/health").content

    def answer(where: str, path: str) -> tuple[int, str]:
        reply = httpx.post(f"{where}/predictions/{path}", content=b"version ", timeout=20)
        return reply.status_code, reply.json().get("version") or reply.json().get("error", {}).get("code", "")

    assert [answer(server.url, name) for name in ("good", "older", "newer")] == [
        (200, "1.0"),
        (200, "2.0"),
        (200, "1.0"),
    ]
    for path in ("raising", "hanging", "flipped", "older/1.0", "newer/2.0"):
        assert answer(server.url, path)[0] == 404
    with edging(server, tmp_path, {}) as edge:
        assert answer(edge.url, "good") == (200, "1.0")
        assert [answer(edge.url, path) for path in ("raising", "hanging", "newer/2.0")] == [(404, "not_found")] * 3
        assert httpx.get(f"{edge.url}/health").json() == {"status": "ready"}
        listed = marserve("models", "list", "--port", str(server.port)).stdout
        assert "\nFAILED raising 1.0: does not load: KeyError: '/a/secret' (logs: " in listed
    time.sleep(max(0, began + QUIET - time.monotonic()))
    assert workers(server) == pids


def test_what_failed_is_not_tried_again_before_it_is_asked_for(server: Server, store: Path) -> None:
    """Neither when TorchServe comes back; but by `models register`, and by the next start."""
    os.kill(java_of(server.port), signal.SIGKILL)
    wait_for(lambda: httpx.get(f"{server.metrics}/health").json()["status"] == "starting")
    wait_for(lambda: health(server)[1] == "degraded")
    assert health(server) == (200, "degraded", set(LOST))
    assert len(workers(server)) == 3
    for name in ("raising", "flipped"):
        write_bare(store, name, PUPIL, PUPIL_CONFIG)
        done = marserve("models", "register", str(store / f"{name}-1.0.mar"), "--port", str(server.port))
        assert done.returncode == 0, done.stderr
    lost = set(LOST) - {"raising 1.0", "flipped-1.0.mar"}
    wait_for(lambda: health(server)[2] == lost)
    rows = json.loads(marserve("models", "list", "--json", "--port", str(server.port)).stdout)
    assert {f"{one['model']} {one['version']}" for one in rows if "failed" in one} == lost
    write_bare(store, "hanging", PUPIL, SHORT)
    assert server.interrupt() == 0
    again = marserve("serve", "--port", str(server.port), "--model-store", str(store), "--detach")
    try:
        assert again.returncode == 0
        assert {line.split(":")[0] for line in again.stderr.splitlines()} == {"FAILED older 1.0", "FAILED newer 2.0"}
        assert "FAILED" not in again.stdout
        assert "restored" not in again.stdout
        assert httpx.post(f"{server.url}/predictions/hanging", content=b"x").status_code == 200
    finally:
        marserve("stop", "--port", str(server.port))


def test_strictly_none_may_fail(store: Path) -> None:
    arguments = ("--model-store", str(store), "--port", str(free_port()), "--strict")
    code, error, seconds = failing(*arguments)
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith(f"error: {store}/flipped-1.0.mar is damaged")
    assert seconds < 10
    code, error, _ = failing(*arguments, "--models", "good-1.0,hanging-1.0,raising-1.0")
    assert code == 1
    assert error.startswith("error: raising does not load: KeyError: '/a/secret' (logs: ")
    assert error.count("\n") == 1


def test_where_nothing_is_ready_nothing_is_served(store: Path) -> None:
    port = free_port()
    code, error, _ = failing("--model-store", str(store), "--port", str(port), "--models", "hanging-1.0,raising-1.0")
    assert code == 1
    assert error.startswith("error: nothing can be served: ")
    assert "raising does not load: KeyError" in error
    assert "hanging is not ready after 3 s" in error
    assert error.count("\n") == 1
    assert processes_of(port) == []
