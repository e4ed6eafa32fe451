"""Answers over REST and gRPC, from small real servers; whatever a server sends, a client survives it."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import grpc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marserve.client import Answer, Client, GrpcClient, RestClient, read_reply
from marserve.errors import MarserveError
from marserve.protos import inference_pb2, inference_pb2_grpc
from tests.marserve.conftest import PATIENT

TORCHSERVE_404 = b'{\n  "code": 404,\n  "type": "ModelNotFoundException",\n  "message": "Model not found: x"\n}'
OWN_ERROR = b'{"error":{"code":"undecodable","message":"cut short"}}'


@contextmanager
def rest_server(reply: Callable[[BaseHTTPRequestHandler, bytes], tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    """An HTTP server in a thread; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, headers, body = reply(self, self.rfile.read(int(self.headers["content-length"] or 0)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Servicer(inference_pb2_grpc.InferenceAPIsServiceServicer):  # type: ignore[misc]  # the stubs have no types
    """Answers by the name of the model, as TorchServe does."""

    def Predictions(  # noqa: N802
        self, request: inference_pb2.PredictionsRequest, context: grpc.ServicerContext
    ) -> inference_pb2.PredictionResponse:
        if request.model_name == "unknown":
            context.abort(grpc.StatusCode.INTERNAL, TORCHSERVE_404.decode())
        if request.model_name == "plain":
            context.abort(grpc.StatusCode.INTERNAL, "no worker to serve")
        echo = json.dumps({"label": request.model_name, "bytes": len(request.input["data"])}).encode()
        return inference_pb2.PredictionResponse(prediction=OWN_ERROR if request.model_name == "strict" else echo)


@pytest.fixture(scope="module")
def grpc_address() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 16 * 2**20)])
    inference_pb2_grpc.add_InferenceAPIsServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def closed() -> Iterator[str]:
    """An address that nobody listens on: the port is taken, so nobody starts to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@PATIENT
@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.text() | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "code", "message", "label"]), inner)
        ),
    )
    .map(json.dumps)
    .map(str.encode),
    st.integers(100, 599),
)
@example(b"[" * 100_000, 200)
@example(b'{"a":' * 100_000, 503)
@example(b'{"a": ' + b"9" * 5000 + b"}", 200)
@example(b'{"label": "\xff"}', 200)
@example(b'{"label": "\\ud800"}', 200)
def test_any_reply_is_an_answer(content: bytes, status: int) -> None:
    answer = read_reply(content, status)
    assert isinstance(answer.body, dict)
    assert bool(answer.error) or (status == 200 and answer.body == json.loads(content))


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        (b'{"label": "animal"}', 200, ""),
        (OWN_ERROR, 400, "undecodable: cut short"),
        (OWN_ERROR, 200, "undecodable: cut short"),
        (TORCHSERVE_404, 404, "404: Model not found: x"),
        (b'{"a": 1}', 500, "500: {'a': 1}"),
        (b"", 200, "the server replied 200 with a body that is no JSON object"),
        (b"<html>", 502, "the server replied 502 with a body that is no JSON object"),
        (b"[1]", 200, "the server replied 200 with a body that is no JSON object"),
    ],
)
def test_who_says_that_it_failed(content: bytes, status: int, error: str) -> None:
    assert read_reply(content, status).error == error


def test_a_reply_that_is_an_image() -> None:
    picture = b"\x89PNG"

    def reply(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if body == b"bad":
            return 422, {"content-type": "application/json"}, b'{"error": {"code": "no_face", "message": "none"}}'
        return 200, {"content-type": request.headers["accept"]}, picture

    with rest_server(reply) as url, RestClient(url) as client:
        assert client.predict("m", b"x", "image/png") == Answer({}, content=picture, media_type="image/png")
        assert client.predict("m", b"bad", "image/png").error == "no_face: none"
    assert read_reply(picture, 500, "image/png").error.startswith("the server replied 500")
    assert read_reply(b"<html>", 200, "text/html").error.startswith("the server replied 200")


def test_rest_sends_the_file_as_it_is() -> None:
    seen = []

    def reply(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        seen.append((request.path, request.headers["content-type"], body))
        return 200, {}, b'{"label": "animal"}'

    with rest_server(reply) as url, RestClient(url) as client:
        assert client.predict("captcha_image", b"\xff\xd8") == Answer({"label": "animal"})
        client.predict("a/b?c", b' \n {"kind": 1}')
        client.predict("list", b"[1]")
        client.predict("nothing", b"")
    assert seen == [
        ("/predictions/captcha_image", "application/octet-stream", b"\xff\xd8"),
        ("/predictions/a%2Fb%3Fc", "application/json", b' \n {"kind": 1}'),
        ("/predictions/list", "application/json", b"[1]"),
        ("/predictions/nothing", "application/octet-stream", b""),
    ]


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "\u00fc"])
def test_a_key_that_is_none(key: str) -> None:
    for client in (partial(RestClient, "http://127.0.0.1:1"), partial(GrpcClient, "127.0.0.1:1")):
        with pytest.raises(MarserveError, match="paste it again"):
            client(key)


def test_rest_errors_are_answers() -> None:
    with rest_server(lambda *_: (422, {}, OWN_ERROR)) as url, RestClient(url) as client:
        assert client.predict("x", b"").error == "undecodable: cut short"
    with rest_server(lambda *_: (404, {}, TORCHSERVE_404)) as url, RestClient(url) as client:
        assert client.predict("x", b"").error == "404: Model not found: x"
    zipped = gzip.compress(b'{"label": "object"}')
    with rest_server(lambda *_: (200, {"content-encoding": "gzip"}, zipped)) as url, RestClient(url) as client:
        assert client.predict("x", b"").body == {"label": "object"}


def fails(client: Client, start: str) -> None:
    with client, pytest.raises(MarserveError) as caught:
        client.predict("x", b"data")
    message = str(caught.value)
    assert message.startswith(start)
    assert message.endswith("is `marserve serve` running?")
    assert len(message.splitlines()) == 1


def test_rest_without_a_server(closed: str) -> None:
    fails(RestClient(f"http://{closed}"), f"no answer from http://{closed}")
    fails(RestClient(f"http://{'a' * 70}"), "no answer from ")
    for url in (closed, "ftp://127.0.0.1", "", "http://"):
        with pytest.raises(MarserveError, match="is not a server's address"):
            RestClient(url)


def test_a_proxy_in_the_environment_does_not_hide_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with rest_server(lambda *_: (200, {}, b'{"label": "cat"}')) as url, RestClient(url) as client:
        assert client.predict("m", b"x").body == {"label": "cat"}


def test_rest_with_something_else_there() -> None:
    with rest_server(lambda *_: (200, {"content-encoding": "gzip"}, b"not gzip")) as url:
        fails(RestClient(url), f"no answer from {url}")


@pytest.mark.parametrize("url", ["http://a:b", "http://a\0b", "http://\ud800"])
def test_no_url(url: str) -> None:
    with pytest.raises(MarserveError, match="is not a server's address"):
        RestClient(url)


def test_grpc_answers(grpc_address: str) -> None:
    with GrpcClient(grpc_address) as client:
        assert client.predict("captcha_image", b"1234") == Answer({"label": "captcha_image", "bytes": 4})
        large = 5 * 2**20  # over gRPC's own default of 4 MiB
        assert client.predict("captcha_image", bytes(large)).body["bytes"] == large


def test_grpc_errors_are_answers(grpc_address: str) -> None:
    """TorchServe sends an item's own error as OK, and its own as INTERNAL with JSON in the details."""
    with GrpcClient(grpc_address) as client:
        assert client.predict("strict", b"").error == "undecodable: cut short"
        assert client.predict("unknown", b"") == Answer({}, "INTERNAL: Model not found: x")
        assert client.predict("plain", b"") == Answer({}, "INTERNAL: no worker to serve")


def test_grpc_without_a_server(closed: str) -> None:
    fails(GrpcClient(closed), f"no answer from {closed}")
