"""`marserve top` against pages of a small server: what it prints, and how it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import count

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from handlers.metrics import Metrics
from marserve.errors import MarserveError
from marserve.settings import free_loopback
from marserve.top import metrics_url, top
from tests.marserve.test_client import rest_server
from tests.paths import ROOT


@contextmanager
def page(status: int = 200, fixed: bytes | None = None) -> Iterator[str]:
    """One on which two batches appear between each scrape and the next."""
    registry = CollectorRegistry()
    metrics = Metrics("cat[/b]", "1.0", registry)
    scrapes = count()

    def reply(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        assert request.path == "/metrics"
        if next(scrapes):
            metrics.observe({"decode": 0.001, "run": 0.3, "encode": 0.002}, [200, 200, 422], [None] * 3)
            metrics.observe({"decode": 0.001, "run": 0.3, "encode": 0.002}, [503], [None])
            metrics.write()
        text = generate_latest(registry) + b'marserve_workers{model="cat[/b]",version="1.0"} 1\n'
        return status, {}, text if fixed is None else fixed

    with rest_server(reply) as url:
        yield f"{url}/metrics"


def test_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    with page() as url:
        top(url, 0.1, once=True)
    head, row, last = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["model", "version", "workers"]
    cells = row.split()
    assert cells[:3] == ["cat[/b]", "1.0", "1"]
    requests, client_errors, server_errors, batch, p50, p99, queue, decode, run, encode = cells[3:13]
    assert float(requests) > 0
    assert 2 * float(client_errors) == pytest.approx(float(requests) / 2, abs=0.3)
    assert float(server_errors) == float(client_errors)
    assert float(batch) == 2
    assert (queue, decode, run, encode) == ("-", "0.50", "150", "1.00")
    assert 300 <= float(p50) <= float(p99) <= 500
    assert cells[13:] == ["100", "%", "run"]
    assert "0.0 4xx/s, 0.0 5xx/s" in last


def test_models_without_metrics_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with page(fixed=b"# nothing\n") as url:
        top(url, 0.01, once=True)
    assert "no model here has marserve's metrics" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [(404, b"", "answers 404"), (200, b"<html>hello</html>", "is no page of metrics")],
)
def test_another_page(status: int, content: bytes, said: str) -> None:
    with page(status, content) as url, pytest.raises(MarserveError, match=said):
        top(url, 0.01, once=True)


def test_no_server() -> None:
    url = f"{free_loopback().url}/metrics"
    with pytest.raises(MarserveError, match=f"no answer from {url}: .*; is `marserve serve` running"):
        top(url, 0.01, once=True)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8082", "ftp://127.0.0.1/metrics", "http://", "http://a:b"])
def test_no_address(url: str) -> None:
    with pytest.raises(MarserveError, match="is no address of a page of metrics"):
        top(url, 0.01, once=True)


def test_where_the_page_is() -> None:
    assert metrics_url(8080) == "http://127.0.0.1:8082/metrics"
    assert metrics_url(9000) == "http://127.0.0.1:9002/metrics"


@pytest.mark.parametrize("terminal", [False, True])
def test_it_goes_on_until_ctrl_c(terminal: bool) -> None:
    """On a terminal the table is drawn in its own place; elsewhere one follows the other, without control codes."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160", "PYTHONPATH": str(ROOT)}
    with page() as url:
        command = [sys.executable, "-m", "marserve", "top", "--metrics", url, "--interval", "0.1"]
        out = theirs if terminal else subprocess.PIPE
        with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env=environment) as process:
            assert process.stderr is not None
            os.close(theirs)
            source = ours if terminal or process.stdout is None else process.stdout.fileno()
            shown = b""
            while shown.count(b"cat[/b]") < 3:
                shown += os.read(source, 1000)
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            assert process.wait(30) == 0
            assert said == b""
    os.close(ours)
    assert (b"\x1b" in shown) == terminal
