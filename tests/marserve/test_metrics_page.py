"""The merged page: workers' files that real processes wrote, and a TorchServe that answers, or does not."""

from __future__ import annotations

import socket
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from marserve.deaths import Deaths
from marserve.metrics_page import MetricsPage
from marserve.rates import Samples, read_samples
from marserve.settings import Address, free_loopback
from tests.marserve.pages import worker
from tests.marserve.test_client import rest_server

TORCHSERVE = b"""# HELP ts_inference_requests_total Torchserve prometheus counter metric with unit: Count
# TYPE ts_inference_requests_total counter
ts_inference_requests_total{model_name="cat",model_version="default",hostname="vm",} 6.0
# HELP Requests4XX Torchserve prometheus counter metric with unit: Count
# TYPE Requests4XX counter
Requests4XX{Level="Host",Hostname="vm",} 2.0

"""


def value(samples: Samples, name: str, version: str = "1.0", **labels: str) -> float:
    return samples[(name, frozenset({"model": "cat", "version": version, **labels}.items()))]


def torchserve(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, TORCHSERVE


def broken(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
    return 500, {}, b"<html>"


def at(url: str) -> Address:
    return Address("127.0.0.1", httpx.URL(url).port or 0)


def test_both_parts_on_one_page(tmp_path: Path) -> None:
    deaths = Deaths("TorchServe")
    deaths.count(1)
    with worker(tmp_path), rest_server(torchserve) as url, MetricsPage(tmp_path, at(url), [deaths]) as metrics:
        page = metrics.page()
        assert (page.status, page.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
        samples = read_samples(page.body.decode())
        assert value(samples, "marserve_replies_total", code="200") == 2
        assert value(samples, "marserve_replies_total", code="422") == 1
        assert value(samples, "marserve_request_seconds_count") == 3
        assert value(samples, "marserve_stage_seconds_bucket", stage="run", le="0.0015") == 0
        assert value(samples, "marserve_stage_seconds_bucket", stage="run", le="0.002") == 1
        assert [count for (name, _), count in samples.items() if name == "Requests4XX_total"] == [2]
        families = [family.name for family in text_string_to_metric_families(page.body.decode())]
        assert len(families) == len(set(families)) == 9
        assert samples["marserve_deaths_total", frozenset({("process", "TorchServe")})] == 1


def test_versions_and_workers_that_ended(tmp_path: Path) -> None:
    """What an ended worker counted stays; it is no worker any more."""
    page = MetricsPage(tmp_path, free_loopback())
    with page, worker(tmp_path, batches=2), worker(tmp_path, version="2.0"):
        with worker(tmp_path, batches=3):
            samples = read_samples(page.text().decode())
            assert value(samples, "marserve_workers") == 2
        samples = read_samples(page.text().decode())
        assert value(samples, "marserve_workers") == 1
        assert value(samples, "marserve_workers", version="2.0") == 1
        assert value(samples, "marserve_batch_size_count") == 5
        assert value(samples, "marserve_batch_size_count", version="2.0") == 1


def test_a_file_that_is_only_just_being_made(tmp_path: Path) -> None:
    with worker(tmp_path), MetricsPage(tmp_path, free_loopback()) as page:
        (tmp_path / "counter_1.db").touch()
        assert value(read_samples(page.text().decode()), "marserve_workers") == 1


def test_without_torchserve_the_workers_part_is_there(tmp_path: Path) -> None:
    with worker(tmp_path), rest_server(broken) as url:
        for behind in (free_loopback(), at(url)):
            with MetricsPage(tmp_path, behind) as page:
                text = page.text().decode()
                assert value(read_samples(text), "marserve_workers") == 1
                assert text.splitlines()[-1].startswith("# TorchServe's own metrics are missing: ")


def test_before_any_worker(tmp_path: Path) -> None:
    with MetricsPage(tmp_path, free_loopback()) as page:
        assert read_samples(page.text().decode()) == {}


def test_a_torchserve_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marserve.metrics_page.TORCHSERVE_TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        behind = Address("127.0.0.1", silent.getsockname()[1])
        with MetricsPage(tmp_path, behind) as page:
            started = time.monotonic()
            assert b"no answer (ReadTimeout)" in page.text()
            assert time.monotonic() - started < 30
