"""/health over a management API that says what a test wants it to say."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from marserve.failures import Failure
from marserve.health import STALE, Health
from marserve.settings import Address, free_loopback
from tests.marserve.test_client import rest_server


class TorchServe:
    """By model its versions; the first is the default."""

    def __init__(self) -> None:
        self.models: dict[str, list[dict[str, Any]]] = {}
        self.answers = True
        self.looks = 0

    def add(self, model: str, version: str, *states: str) -> None:
        entry: dict[str, Any] = {"modelName": model, "modelVersion": version, "modelUrl": f"{model}-{version}.mar"}
        entry |= dict.fromkeys(("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay"), 1)
        workers = [{"id": "9000", "pid": 100 + index, "status": state} for index, state in enumerate(states)]
        timeouts = {"responseTimeout": 20, "startupTimeout": 120}
        queue = {"jobQueueStatus": {"remainingCapacity": 100, "pendingRequests": 0}}
        self.models.setdefault(model, []).append(entry | timeouts | {"workers": workers} | queue)

    def __call__(self, request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if not self.answers:
            return 500, {}, b"<html>"
        if request.path.startswith("/models?"):
            self.looks += 1
            first = [{"modelName": name, "modelUrl": found[0]["modelUrl"]} for name, found in self.models.items()]
            return 200, {}, json.dumps({"models": first}).encode()
        return 200, {}, json.dumps(self.models[request.path.split("/")[2]]).encode()


def at(url: str) -> Address:
    return Address("127.0.0.1", int(url.rpartition(":")[2]))


def said(health: Health) -> tuple[int, str, str]:
    page = health.page()
    content = json.loads(page.body)
    return page.status, content["status"], content.get("reason", "")


def test_every_default_version_needs_a_ready_worker() -> None:
    torchserve = TorchServe()
    torchserve.add("cat", "2.0", "READY", "UNLOADING")
    torchserve.add("cat", "1.0")  # no default: nobody misses it
    torchserve.add("dog", "1.0", "UNLOADING")
    with rest_server(torchserve) as url:
        health = Health(at(url))
        health.look()
        assert said(health) == (503, "starting", "models are being loaded")
        health.serving()
        assert said(health) == (503, "unavailable", "no worker is ready for dog")
        assert json.loads(health.page().body)["models"]["cat"] == {"version": "2.0", "workers": 2, "ready": 1}
        torchserve.models["dog"][0]["workers"][0]["status"] = "READY"
        assert said(health)[1] == "unavailable"  # what was seen last
        health.look()
        assert said(health) == (200, "ready", "")
        torchserve.models.clear()
        health.look()
        assert said(health) == (503, "unavailable", "no worker is ready for any model")
        health.drain()
        assert said(health) == (503, "draining", "the server is about to end")
        health.stop()


FAILED = (
    Failure("dog-1.0.mar", "dog", "1.0", "does not load: KeyError: '/etc/secret' (logs: /run/x)", "does not load"),
    Failure("cut.mar", "", "", "/store/cut.mar is not a readable archive", "the archive is refused"),
)


def test_what_has_failed_is_named_and_takes_nothing_else_with_it() -> None:
    torchserve = TorchServe()
    torchserve.add("cat", "2.0", "READY")
    with rest_server(torchserve) as url:
        health = Health(at(url))
        health.serving(FAILED)
        health.look()
        assert said(health) == (200, "degraded", "without what has failed: dog 1.0, cut.mar")
        body = health.page().body
        assert json.loads(body)["failed"] == [
            {"archive": "dog-1.0.mar", "model": "dog", "version": "1.0", "reason": "does not load"},
            {"archive": "cut.mar", "model": "", "version": "", "reason": "the archive is refused"},
        ]
        assert not any(word in body for word in (b"secret", b"/run", b"/store"))
        torchserve.models["cat"][0]["workers"][0]["status"] = "UNLOADING"
        health.look()
        assert said(health) == (503, "unavailable", "no worker is ready for cat")
        torchserve.models["cat"][0]["workers"][0]["status"] = "READY"
        torchserve.add("dog", "1.0", "READY")  # registered again
        health.look()
        assert said(health)[2] == "without what has failed: cut.mar"
        assert health.failed == FAILED[1:]
        torchserve.add("cut", "1.0", "READY")
        torchserve.models["cut"][0]["modelUrl"] = "cut.mar"
        health.look()
        assert said(health) == (200, "ready", "")
        assert "failed" not in json.loads(health.page().body)
        health.stop()


def test_what_it_shows_has_been_told_before() -> None:
    """A default that a client has seen here outlives TorchServe, since it was kept by then."""
    torchserve, shown = TorchServe(), []
    torchserve.add("cat", "1.0", "READY")
    with rest_server(torchserve) as url:
        health = Health(at(url), lambda versions: shown.append((len(versions), json.loads(health.page().body))))
        health.look()
        health.serving()
        torchserve.add("dog", "1.0", "READY")
        health.look()
        assert [(told, list(page["models"])) for told, page in shown] == [(2, ["cat"])]
        health.starting()
        assert said(health) == (503, "starting", "models are being loaded")
        assert json.loads(health.page().body)["models"] == {}
        health.look()
        assert len(shown) == 1
        health.serving()
        assert said(health)[0] == 200
        health.stop()


@pytest.mark.parametrize("how", ["silent", "broken"])
def test_what_was_seen_gets_old(how: str) -> None:
    torchserve, now = TorchServe(), 0.0
    torchserve.add("cat", "1.0", "READY")
    with rest_server(torchserve) as url:
        health = Health(at(url) if how == "broken" else free_loopback(), clock=lambda: now)
        health.serving()
        if how == "broken":
            health.look()
            assert said(health)[0] == 200
        torchserve.answers = False
        now = STALE - 0.1
        health.look()
        assert said(health)[0] == (200 if how == "broken" else 503)
        now = STALE
        health.look()
        assert said(health)[:2] == (503, "unknown")
        torchserve.answers = how == "broken"
        health.look()
        assert said(health)[0] == (200 if how == "broken" else 503)
        health.stop()


def test_a_thread_keeps_looking() -> None:
    torchserve = TorchServe()
    before = threading.active_count()
    with rest_server(torchserve) as url:
        health = Health(at(url))
        health.serving()
        health.start()
        torchserve.add("cat", "1.0", "READY")
        deadline = time.monotonic() + 20
        while said(health)[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert said(health)[0] == 200
        health.stop()
    assert threading.active_count() == before
