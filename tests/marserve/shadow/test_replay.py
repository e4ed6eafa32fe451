"""How copies are sent; the candidate is a small server of the test's."""

from __future__ import annotations

import email
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from marserve.settings import Address
from marserve.shadow.copies import Copy, Reply
from marserve.shadow.replay import NO_ANSWER, TIMED_OUT, Replay, content


@contextmanager
def candidate(answer: Any) -> Iterator[tuple[Address, list[Any]]]:
    """Where it listens, and the requests that it got; `answer` gets each of them."""
    got: list[Any] = []

    class Page(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, dict(self.headers.items()), body))
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield Address("127.0.0.1", server.server_port), got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(page: BaseHTTPRequestHandler, status: int = 200) -> None:
    page.send_response(status)
    page.send_header("content-length", "2")
    page.end_headers()
    page.wfile.write(b"{}")


def copy(bodies: dict[str, bytes], **headers: Any) -> Copy:
    return Copy("id", {name.replace("_", "-"): value for name, value in headers.items()}, bodies, Reply(200, b""), 0.1)


def test_a_body_is_sent_as_it_came() -> None:
    headers = {
        **{"Host": "example.org", "Content-Type": "image/jpeg", "Content-Length": "7", "Connection": "close"},
        **{"X-Request-Start": "t=1", "explain": "False", "X-Own": "h\xe9", "body": {"content-type": "image/jpeg"}},
    }
    with candidate(reply) as (address, got):
        sender = Replay(address, "a/b", "1 2", 5, threading.Event())
        sent = copy({"body": b"\xff\x00"})
        answers = [sender.send(Copy("id", headers, sent.bodies, sent.reply, 0.1)) for _ in range(2)]
        sender.send(copy({"body": b"x"}, explain="True"))
        sender.close()
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"{}")] * 2
    path, seen, body = got[1]
    assert (path, body) == ("/predictions/a%2Fb/1%202", b"\xff\x00")
    assert seen == {
        "Host": str(address),
        "X-Own": "h\xe9",
        "content-type": "image/jpeg",
        "content-length": "2",
    }
    assert got[2][0] == "/explanations/a%2Fb/1%202"


def test_what_came_over_grpc_is_answered_in_json_again() -> None:
    """It has no `explain`, which TorchServe puts on every REST request."""
    with candidate(reply) as (address, got):
        sender = Replay(address, "m", "1", 5, threading.Event())
        sender.send(copy({"data": b"x"}))
        sender.send(copy({"body": b"x"}, explain="False"))
        sender.send(copy({"body": b"x"}, explain="False", Accept="image/png"))
        sender.close()
    assert [headers.get("accept") or headers.get("Accept") for _, headers, _ in got] == [
        "application/json",
        None,
        "image/png",
    ]


def test_fields_are_sent_as_a_form() -> None:
    kinds = {"data": {"content-type": "image/png"}, "more": {"content-type": ""}}
    content_type, body = content(copy({"data": b"\r\n--\xff", "more": b""}, **kinds))
    form = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts: Any = form.get_payload()
    assert [part.get_param("name", header="content-disposition") for part in parts] == ["data", "more"]
    assert [part.get_payload(decode=True) for part in parts] == [b"\r\n--\xff", b""]
    assert parts[0].get_content_type() == "image/png"
    assert "content-type" not in parts[1]


def test_a_form_with_one_field_stays_a_form() -> None:
    content_type, body = content(copy({"body": b"x"}, content_type="multipart/form-data; boundary=y"))
    assert content_type.startswith("multipart/form-data; boundary=")
    assert b"x" in body
    assert content(copy({}, content_type="application/x-www-form-urlencoded")) == ("", b"")


def test_a_late_answer_is_waited_for_before_the_next_request() -> None:
    go = threading.Event()

    def late(page: BaseHTTPRequestHandler) -> None:
        go.wait(10)
        reply(page)

    with candidate(late) as (address, got):
        sender = Replay(address, "m", "1", 0.05, threading.Event())
        assert sender.send(copy({"body": b"first"})).status == TIMED_OUT
        threading.Timer(0.5, go.set).start()
        sender.settle()
        assert go.is_set()
        assert sender.send(copy({"body": b"second"})).status == 200
        assert [body for *_, body in got] == [b"first", b"second"]
        sender.close()


def test_an_end_cuts_the_wait_short() -> None:
    go, ending = threading.Event(), threading.Event()
    with candidate(lambda _: go.wait(30)) as (address, _):
        sender = Replay(address, "m", "1", 0.05, ending)
        assert sender.send(copy({"body": b"x"})).status == TIMED_OUT
        ending.set()
        started = time.monotonic()
        sender.settle()
        assert time.monotonic() - started < 10
        go.set()


def test_a_connection_that_was_closed_meanwhile_is_no_fault_of_the_candidate() -> None:
    def closing(page: BaseHTTPRequestHandler) -> None:
        reply(page)
        page.close_connection = True  # without saying so

    with candidate(closing) as (address, got):
        sender = Replay(address, "m", "1", 5, threading.Event())
        assert [sender.send(copy({"body": b"x"})).status for _ in range(5)] == [200] * 5
        assert len(got) == 5
        sender.close()


def test_what_http_cannot_carry_is_not_sent() -> None:
    with candidate(reply) as (address, got):
        sender = Replay(address, "m", "1", 5, threading.Event())
        assert sender.send(Copy("id", {"a\nb": "c"}, {"body": b"x"}, Reply(200, b""), 0.1)).status == NO_ANSWER
        assert sender.send(copy({"body": b"x"})).status == 200
        assert len(got) == 1
        sender.close()


@pytest.mark.parametrize("half", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_a_broken_connection_is_no_answer(half: bytes) -> None:
    def broken(page: BaseHTTPRequestHandler) -> None:
        page.wfile.write(half)
        page.close_connection = True

    with candidate(broken) as (address, _):
        sender = Replay(address, "m", "1", 5, threading.Event())
        assert [sender.send(copy({"body": b"x"})).status for _ in range(2)] == [NO_ANSWER] * 2
    assert sender.send(copy({"body": b"x"})).status == NO_ANSWER  # nobody listens any more
    sender.settle()
    sender.close()
