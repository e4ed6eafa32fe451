"""TorchServe's management API, from a small server that says what a test wants it to say."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

import pytest

from marserve.management import Management, NoAnswerError, Worker
from marserve.settings import free_loopback
from tests.marserve.test_client import rest_server
from tests.marserve.test_health import TorchServe, at


def test_all_versions_of_all_models() -> None:
    torchserve = TorchServe()
    torchserve.add("cat", "2.0", "READY", "UNLOADING")
    torchserve.add("cat", "1.0")
    torchserve.add("dog", "1.0", "READY")
    with rest_server(torchserve) as url:
        management = Management(at(url))
        found = management.versions()
        assert [(one.model, one.version, one.default, one.ready) for one in found] == [
            ("cat", "2.0", True, 1),
            ("cat", "1.0", False, 0),
            ("dog", "1.0", True, 1),
        ]
        assert found[0].workers == (Worker(100, "READY"), Worker(101, "UNLOADING"))
        assert found[0].settings["responseTimeout"] == 20
        management.close()


@pytest.mark.parametrize(
    "content", [b"<html>", b"[]", b"{}", b'{"models": [{}]}', b'{"models": [{"modelName": "a", "modelUrl": "a"}]}']
)
def test_what_is_no_answer(content: bytes) -> None:
    def reply(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, content

    with rest_server(reply) as url:
        management = Management(at(url))
        for _ in range(2):  # and the next time it asks anew
            with pytest.raises(NoAnswerError):
                management.versions()
        management.close()


def test_a_model_that_is_unregistered_meanwhile() -> None:
    def reply(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if request.path.startswith("/models?"):
            return 200, {}, json.dumps({"models": [{"modelName": "cat", "modelUrl": "cat.mar"}]}).encode()
        return 404, {}, b'{"code": 404, "type": "ModelNotFoundException", "message": "Model not found: cat"}'

    with rest_server(reply) as url, pytest.raises(NoAnswerError):
        Management(at(url)).versions()


def test_nobody_there() -> None:
    with pytest.raises(NoAnswerError, match="ConnectionRefusedError"):
        Management(free_loopback()).versions()
