"""The page of metrics: what the workers measured (handlers/metrics.py), then TorchServe's own counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from marserve.deaths import Deaths
from marserve.pages import Page
from marserve.settings import Address

TORCHSERVE_TIMEOUT = 2.0  # seconds; a scrape of Prometheus' gives up after 10


class MetricsPage:
    """`folder` has the workers' files, `torchserve` is where its own page is. It asks nobody after the `with`."""

    def __init__(self, folder: Path, torchserve: Address, deaths: Sequence[Deaths] = ()) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(WorkersCollector(folder))
        self._registry.register(DeathsCollector(deaths))
        self._url = f"{torchserve.url}/metrics"
        self._http = httpx.Client(timeout=TORCHSERVE_TIMEOUT, trust_env=False)

    def page(self) -> Page:
        return Page(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, self.text())

    def text(self) -> bytes:
        """In Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry) + self._torchserve()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def _torchserve(self) -> bytes:
        try:
            reply = self._http.get(self._url)
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed meanwhile
            return b"# TorchServe's own metrics are missing: no answer (%s)\n" % type(error).__name__.encode()
        if reply.status_code != HTTPStatus.OK:
            return b"# TorchServe's own metrics are missing: it answered %d\n" % reply.status_code
        return reply.content.rstrip() + b"\n"


class WorkersCollector(Collector):
    """All workers' series added up, the ended ones' too: a counter must not go back. And how many are alive."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        # A file that is only just being made is empty for a moment, and prometheus_client cannot read it.
        files = [path for path in sorted(self._folder.glob("*.db")) if path.stat().st_size]
        yield from _merge(files)
        workers = Counter(model for path in files if _alive(path) for model in _models(path))
        gauge = GaugeMetricFamily(
            "marserve_workers", "Running workers that have the model.", labels=("model", "version")
        )
        for model, count in workers.items():
            gauge.add_metric(model, count)
        yield gauge


class DeathsCollector(Collector):
    """What died by itself and was started again."""

    def __init__(self, deaths: Sequence[Deaths]) -> None:
        self._deaths = deaths

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily(
            "marserve_deaths", "How often the process ended by itself and was started again.", labels=("process",)
        )
        for one in self._deaths:
            counter.add_metric((one.what,), one.total)
        yield counter


def _alive(path: Path) -> bool:
    """Whether `counter_<process id>.db` is of a process that runs; every worker has one such file."""
    kind, _, pid = path.stem.partition("_")
    return kind == "counter" and Path("/proc", pid).exists()


def _merge(files: list[Path]) -> Iterator[Metric]:
    yield from MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]


def _models(path: Path) -> set[tuple[str, str]]:
    samples = (sample for metric in _merge([path]) for sample in metric.samples)
    return {(sample.labels["model"], sample.labels["version"]) for sample in samples}
