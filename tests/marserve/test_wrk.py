from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from marserve.errors import MarserveError
from marserve.wrk import Request, run
from tests.tools import need


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: set[tuple[str, bytes, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.add((self.path, body, self.headers["X-Kind"]))  # type: ignore[attr-defined]
        self.send_response(200 if self.path != "/no" else 422)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.seen = set()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_requests_take_turns_and_arrive_as_they_are(echo: ThreadingHTTPServer) -> None:
    need("wrk")
    binary = bytes(range(256))
    asked = [Request("/a", binary, {"X-Kind": 'a "b" \\'}), Request("/b", b"", {"X-Kind": "2"})]
    figures = run(f"http://127.0.0.1:{echo.server_port}", asked, connections=2, seconds=1)
    assert echo.seen == {("/a", binary, 'a "b" \\'), ("/b", b"", "2")}  # type: ignore[attr-defined]
    assert figures.errors == 0
    assert figures.requests > 10
    assert 0 < figures.p50_ms <= figures.p99_ms <= figures.max_ms
    assert 0 < figures.generator_cpu < 1


def test_replies_of_400_and_up_are_errors(echo: ThreadingHTTPServer) -> None:
    need("wrk")
    asked = [Request("/no", b"", {"X-Kind": "x"}), Request("/a", b"", {"X-Kind": "x"})]
    figures = run(f"http://127.0.0.1:{echo.server_port}", asked, connections=1, seconds=1)
    assert abs(figures.errors - figures.requests / 2) <= 1


def test_users_that_pause_ask_less(echo: ThreadingHTTPServer) -> None:
    need("wrk")
    asked = [Request("/a", b"", {"X-Kind": "x"})]
    figures = run(f"http://127.0.0.1:{echo.server_port}", asked, connections=2, seconds=1, pause=100)
    assert 2 <= figures.requests <= 22  # each connection at most ten times a second, and the first time at once
    assert figures.errors == 0


def test_nobody_there_is_said() -> None:
    need("wrk")
    with pytest.raises(MarserveError, match=r"wrk failed on .*unable to connect"):
        run("http://127.0.0.1:9", [Request("/", b"")], connections=1, seconds=1)


def test_a_missing_wrk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    with pytest.raises(MarserveError, match="wrk is not installed"):
        run("http://127.0.0.1:9", [Request("/", b"")], connections=1, seconds=1)
