"""/health, workers that die, hang or grow, and ends without a lost request: on a real server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import httpx

from tests.e2e.server import Server, serving

CHALLENGE = {"kind": "drag_drop", "count": 4}


def health(server: Server) -> tuple[int, str]:
    reply = httpx.get(f"{server.metrics}/health")
    return reply.status_code, reply.json()["status"]


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> float:
    """The seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + seconds
        time.sleep(0.02)
    return time.monotonic() - started


def worker_pids(server: Server, model: str) -> list[int]:
    (found,) = httpx.get(f"{server.management}/models/{model}").json()
    return [worker["pid"] for worker in found["workers"]]


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
