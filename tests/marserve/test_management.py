"""TorchServe's management API, from a small server that says what a test wants it to say."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

import pytest

from marserve.management import Management, NoAnswerError, RefusedError, Worker
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


def test_changes_and_what_torchserve_says_to_them() -> None:
    asked = []

    def reply(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(f"{request.command} {request.path}")
        if request.command == "DELETE":
            return 403, {}, b'{"code": 403, "type": "X", "message": "Cannot remove default version for model a b"}'
        return 202, {}, b'{"status": "Processing worker updates..."}'

    with rest_server(reply) as url:
        management = Management(at(url))
        management.register("a b.mar", batch_size=3)
        management.scale("a/b", "1.0", 2, 4)
        management.set_default("a b", "2.0")
        with pytest.raises(RefusedError, match=r"^Cannot remove default version for model a b$") as caught:
            management.unregister("a b", "2.0")
        management.close()
    assert caught.value.status == 403
    assert asked == [
        "POST /models?url=a+b.mar&batch_size=3",
        "PUT /models/a%2Fb/1.0?min_worker=2&max_worker=4",
        "PUT /models/a%20b/2.0/set-default",
        "DELETE /models/a%20b/2.0",
    ]


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"code": 500}'])
def test_a_change_without_an_answer_is_not_one_that_was_refused(content: bytes) -> None:
    with rest_server(lambda *_: (500, {}, content)) as url, pytest.raises(NoAnswerError):
        Management(at(url)).set_default("a", "1.0")


def test_one_file_that_two_versions_were_registered_from() -> None:
    torchserve = TorchServe()
    torchserve.add("cat", "2.0", "READY")
    torchserve.add("cat", "1.0", "READY")
    for entry in torchserve.models["cat"]:
        entry["modelUrl"] = "cat.mar"
    with rest_server(torchserve) as url:
        assert [one.default for one in Management(at(url)).versions()] == [True, False]
