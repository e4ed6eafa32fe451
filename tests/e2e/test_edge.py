"""What passes the edge, what it refuses and how, over REST."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.edge import Edge, edging
from tests.e2e.server import Server
from tests.e2e.test_reliability import wait_for

ASK = "/predictions/pupil"
LIMITS = {"body_bytes": 2**20, "body_seconds": 2, "header_seconds": 2}


@pytest.fixture(scope="module")
def edge(pupil: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    model = {"in_flight": 1, "queue": 2, "queue_seconds": 1, "reply_seconds": 3}
    with edging(pupil, tmp_path_factory.mktemp("edge"), {"limits": LIMITS, "model": model}) as running:
        yield running


@pytest.fixture
def client(edge: Edge) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=edge.url, timeout=30) as opened:
        yield opened


def refusal(reply: httpx.Response) -> tuple[int, str]:
    """Status and code; every refusal is JSON in the handlers' form, with a request id."""
    assert reply.headers["content-type"] == "application/json"
    assert re.fullmatch(r"[0-9a-f-]{36}", reply.headers["x-request-id"])
    body = reply.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    return reply.status_code, body["error"]["code"]


def raw(edge: Edge, data: bytes) -> bytes:
    """What comes until the edge closes the connection, or has said nothing for a while."""
    with socket.create_connection(("127.0.0.1", edge.port)) as connection:
        connection.settimeout(5)
        connection.sendall(data)
        reply = b""
        try:
            while chunk := connection.recv(65536):
                reply += chunk
        except TimeoutError:
            pass
        return reply


def test_what_passes(client: httpx.Client) -> None:
    for path in (ASK, f"{ASK}/1.0", "/explanations/pupil", f"{ASK}?a=%zz"):
        for method in ("POST", "PUT"):
            reply = client.request(method, path, content=b"hello")
            assert (reply.status_code, reply.json()) == (200, {"word": "hello"}), (method, path)
    chunks = iter([b"hel", b"lo"])
    assert client.post(ASK, content=chunks).json() == {"word": "hello"}


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/ping", "/models", "/predictions", "/predictions/", "/predictions/pupil/1.0/x", "/predictions//pupil"),
        *(
            "/predictions/%70upil",
            "/predictions/pupil%2f..",
            "/predictions/..",
            "/predictions/pupil/..",
            "/v2/models/p",
        ),
        *(
            "/explanations",
            "/api-description",
            "/invocations",
            "/metrics",
            "/predictions/p;x",
            "/predictions/" + 129 * "a",
        ),
    ],
)
def test_all_other_paths_are_unknown(client: httpx.Client, path: str) -> None:
    assert refusal(client.post(path, content=b"x")) == (404, "not_found")


def test_models_that_are_not_there(client: httpx.Client) -> None:
    for path in ("/predictions/nobody", f"{ASK}/2.0"):
        reply = client.post(path, content=b"x")
        assert refusal(reply) == (404, "not_found")
        assert "no such model" in reply.text


def test_methods(client: httpx.Client) -> None:
    for method in ("GET", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"):
        reply = client.request(method, ASK)
        assert refusal(reply) == (405, "not_allowed")
        assert reply.headers["allow"] == "POST, PUT"
    assert refusal(client.post("/health")) == (405, "not_allowed")


def test_a_body_over_the_limit(edge: Edge, client: httpx.Client) -> None:
    assert client.post(ASK, content=bytes(2**20)).status_code == 200
    assert refusal(client.post(ASK, content=bytes(2**20 + 1))) == (413, "too_large")

    def chunks() -> Iterator[bytes]:
        yield from [bytes(2**16)] * 17

    assert refusal(client.post(ASK, content=chunks())) == (413, "too_large")
    # Told at once, before the body is there.
    head = f"POST {ASK} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    assert raw(edge, head.encode()).startswith(b"HTTP/1.1 413 ")


def test_headers_over_the_limit(client: httpx.Client) -> None:
    assert client.post(ASK, content=b"x", headers={"x-a": "a" * 6000}).status_code == 200
    for size in (8000, 100_000):
        reply = client.post(ASK, content=b"x", headers={"x-a": "a" * size})
        assert refusal(reply) == (431, "headers_too_large")
    many = [(f"x-{number}", "x") for number in range(100)]
    assert refusal(client.post(ASK, content=b"x", headers=many)) == (431, "headers_too_large")
    assert client.post(ASK, content=b"x", headers={"x-a": "a" * 2_000_000}).status_code == 400


def test_a_body_that_does_not_come(edge: Edge) -> None:
    began = time.monotonic()
    reply = raw(edge, f"POST {ASK} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf".encode())
    assert time.monotonic() - began >= 2
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b'{"error":{"code":"too_slow",' in reply


def test_headers_that_do_not_come(edge: Edge) -> None:
    assert raw(edge, b"POST /predictions/pupil HTTP/1.1\r\nHost:").startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "lines",
    [
        "Host: a\r\nHost: b",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1x",
        "Content-Length: -1",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "a b: c",
        "\x00: c",
    ],
)
def test_what_is_no_http_reaches_nobody(edge: Edge, lines: str) -> None:
    reply = raw(edge, f"POST {ASK} HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\nx".encode())
    assert reply.startswith(b"HTTP/1.1 400 ")


def part(headers: str) -> bytes:
    return f"--b\r\n{headers}\r\n\r\nx\r\n--b--\r\n".encode()


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (part("X: y"), "multipart/form-data; boundary=b"),
        (part("Content-Disposition: form-data"), "multipart/form-data; boundary=b"),
        (
            part('Content-Disposition: form-data; name="data"\r\nContent-Type: a/b; charset=no'),
            "multipart/form-data; boundary=b",
        ),
        (part('Content-Disposition: form-data; name="data"'), "multipart/form-data; boundary="),
        (part("Content-Disposition: form-data; "), "multipart/form-data; boundary=b"),
        (b"a=%zz", "application/x-www-form-urlencoded"),
    ],
)
def test_a_broken_form_is_the_clients_fault(
    pupil: Server, client: httpx.Client, content: bytes, content_type: str
) -> None:
    headers = {"content-type": content_type}
    assert httpx.post(f"{pupil.url}{ASK}", content=content, headers=headers).status_code == 500
    assert refusal(client.post(ASK, content=content, headers=headers)) == (400, "bad_request")


def test_a_servers_fault_stays_one(client: httpx.Client) -> None:
    reply = client.post(ASK, content=b"fail")
    assert (reply.status_code, reply.json()["error"]["message"]) == (500, "a fault of ours")


def test_a_full_queue_is_told_at_once(client: httpx.Client) -> None:
    """One is with the model, two wait; of these the second has waited too long before the first is done."""
    with ThreadPoolExecutor(12) as pool:

        def ask(content: bytes) -> tuple[int, float]:
            began = time.monotonic()
            reply = client.post(ASK, content=content)
            if reply.status_code == 429:
                assert refusal(reply) == (429, "overloaded")
                assert reply.headers["retry-after"] == "1"
            return reply.status_code, time.monotonic() - began

        busy = pool.submit(ask, b"sleep 2.5")
        time.sleep(0.5)
        others = list(pool.map(ask, [b"x"] * 10))
        assert client.post("/predictions/other", content=b"x").status_code == 200  # its queue is its own
        assert busy.result()[0] == 200
    assert Counter(status for status, _ in others) == {429: 10}
    late = [seconds for _, seconds in others if seconds > 0.9]
    assert len(late) == 2


def test_no_answer_in_time(client: httpx.Client) -> None:
    assert refusal(client.post(ASK, content=b"sleep 4")) == (504, "timeout")
    time.sleep(1.5)  # until the worker is free again


def test_a_worker_that_dies_costs_nobody_a_request(client: httpx.Client, tmp_path: Path) -> None:
    reply = client.post(ASK, content=f"exit-once {tmp_path / 'it-did'}".encode())
    assert (reply.status_code, reply.json()) == (200, {"word": "exit-once"})
    assert (tmp_path / "it-did").exists()


def test_what_kills_workers_does_so_twice(client: httpx.Client) -> None:
    assert refusal(client.post("/predictions/other", content=b"die")) == (502, "worker_died")
    assert client.post(ASK, content=b"x").status_code == 200


def test_what_the_server_gets_to_know(client: httpx.Client) -> None:
    before = time.time() * 1000
    sent = {
        "marserve-warm-up": "1",
        "explain": "True",
        "Authorization": "Bearer secret",
        "X-API-Key": "secret",
        "X-Request-Start": "t=0",
        "X-Forwarded-For": "192.0.2.1",
        "X-Request-ID": "mine-1.2_3",
        "Accept-Language": "ko",
    }
    reply = client.post(ASK, content=b"headers", headers=sent)
    got = {name.lower(): value for name, value in reply.json().items()}
    assert "marserve-warm-up" not in got
    assert "authorization" not in got
    assert "x-api-key" not in got
    assert got["explain"] == "False"
    assert got["accept-language"] == "ko"
    assert got["x-forwarded-for"] == "127.0.0.1"
    assert got["x-request-id"] == reply.headers["x-request-id"] == "mine-1.2_3"
    assert before - 1000 <= float(got["x-request-start"].removeprefix("t=")) <= time.time() * 1000


@pytest.mark.parametrize("value", ["", "a b", 'x"y', "a\\", "a" * 65, "a,b", "ä"])
def test_a_request_id_of_ones_own_must_be_sane(client: httpx.Client, value: str) -> None:
    reply = client.post(ASK, content=b"x", headers=[(b"X-Request-ID", value.encode("latin-1"))])
    assert re.fullmatch(r"[0-9a-f-]{36}", reply.headers["x-request-id"])


def test_health_and_metrics(edge: Edge, client: httpx.Client) -> None:
    wait_for(lambda: client.get("/health").status_code == 200)  # a worker that died is back
    reply = client.get("/health")
    assert (reply.status_code, reply.json()) == (200, {"status": "ready"})
    text = httpx.get(edge.metrics).text
    assert 'haproxy_backend_current_queue{proxy="rest.pupil"}' in text
    assert httpx.get(edge.metrics.replace("/metrics", "/")).status_code == 404


def test_the_access_log_is_json_whatever_clients_send(edge: Edge, client: httpx.Client) -> None:
    hostile = [
        b'/"}\\',
        b"/\xff\xfe",
        b"/\x7f",
        b"/%00%0a\r",
        b"/" + b'"' * 5000,
        b"/\xf0\x9f\x98\x80",
        b"/" + b"\xff" * 3000,
    ]
    for path in hostile:
        raw_path = path.replace(b"\r", b"")
        raw(edge, b"GET " + raw_path + b' HTTP/1.1\r\nHost: "x\\\r\nConnection: close\r\nX-Request-ID: "\\\r\n\r\n')
    raw(edge, b"garbage\r\n\r\n")
    marker = client.post(ASK, content=b"x").headers["x-request-id"]
    wait_for(lambda: marker in edge.access_log.read_text())
    lines = [json.loads(line) for line in edge.access_log.read_text().splitlines()]
    assert {frozenset(line) for line in lines} == {frozenset(lines[0])}
    last = next(line for line in lines if line["id"] == marker)
    assert last["time_ms"] == pytest.approx(time.time() * 1000, abs=20_000)
    wanted = {"method": "POST", "path": ASK, "model": "pupil", "status": 200, "client": "127.0.0.1", "key": "-"}
    assert wanted.items() <= last.items()
    assert last["total_ms"] >= last["response_ms"] >= 0
    assert edge.access_log.stat().st_mode & 0o077 == 0


def test_slow_clients_do_not_disturb_others(edge: Edge, client: httpx.Client) -> None:
    stop = threading.Event()
    head = f"POST {ASK} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
    slow = [socket.create_connection(("127.0.0.1", edge.port)) for _ in range(300)]

    def dribble() -> None:
        for place in range(len(head)):
            for connection in slow:
                try:
                    connection.send(head[place : place + 1])
                except OSError:
                    continue
            if stop.wait(0.05):
                return

    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        for _ in range(20):
            assert client.post(ASK, content=b"x").status_code == 200
    finally:
        stop.set()
        thread.join()
        for connection in slow:
            connection.close()
