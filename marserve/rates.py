"""Two scrapes of a page of metrics -> what each model did between them. Pure: no clock, no network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from handlers.metrics import STAGES

BUSY = 0.7  # of the workers' time; from there on what they do is the limit

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True)
class Scrape:
    seconds: float  # of a clock that only goes forward
    samples: Samples


@dataclass(frozen=True, slots=True)
class Rates:
    """One version of a model. Rates are per second, times in seconds; None where nothing says it."""

    model: str
    version: str
    workers: int
    requests: float
    client_errors: float  # 4xx
    server_errors: float  # 5xx
    batch: float | None  # mean requests
    p50: float | None
    p99: float | None
    stages: Mapping[str, float | None]  # seconds per request: "queue" its own, the others its share of a batch
    busy: float | None  # share of the workers' time in decode, run and encode, 0 to 1

    @property
    def limit(self) -> str:
        """What keeps this model from more requests. Never the queue: it is long because something behind it is slow."""
        if self.busy is None:
            return "no worker"
        if self.busy < BUSY:
            return f"none: workers idle {100 * (1 - self.busy):.0f} %"
        return max(STAGES, key=lambda stage: self.stages[stage] or 0.0)


@dataclass(frozen=True, slots=True)
class ServerRates:
    """Replies of the whole server per second over REST, those of no worker included."""

    client_errors: float
    server_errors: float


def read_samples(page: str) -> Samples:
    """Prometheus' text format -> samples; every counter's name ends with "_total". Raises ValueError."""
    families = text_string_to_metric_families(page)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def rates(before: Scrape, after: Scrape) -> list[Rates]:
    """Of every version that `after` knows, by name. `before` must be the earlier one."""
    change = _Change(before, after)
    versions = {
        (found["model"], found["version"])
        for name, labels in after.samples
        if name == "marserve_replies_total"
        for found in [dict(labels)]
    }
    return [_of_version(change, *version) for version in sorted(versions)]


def server_rates(before: Scrape, after: Scrape) -> ServerRates:
    change = _Change(before, after)
    return ServerRates(*(change.total(f"Requests{kind}XX_total") / change.seconds for kind in "45"))


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """The value below which a share `q` lies, from cumulative counts by upper bound (the last one infinite).

    Linear within its bucket, whose lower end is 0 for the first; beyond the last finite bound it is that bound. None
    without observations. Source: histogram_quantile in Prometheus' documentation of its query functions.
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank = q * buckets[bounds[-1]]
    lower = below = 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank and count > below:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


class _Change:
    """How much each counter grew."""

    def __init__(self, before: Scrape, after: Scrape) -> None:
        self.seconds = after.seconds - before.seconds
        earlier, later = before.samples, after.samples
        if any(later.get(key, 0.0) < value for key, value in earlier.items() if _is_counter(key[0])):
            earlier = {}  # another server is behind the address now: its counters began at 0
        elif all(_is_ours(name) for name, _ in earlier):  # TorchServe did not answer then: what it did since is unknown
            later = {key: value for key, value in later.items() if _is_ours(key[0])}
        self._samples = {key: value - earlier.get(key, 0.0) for key, value in later.items()}
        self._later = later

    def total(self, name: str, **labels: str) -> float:
        """Of all series that have these labels."""
        wanted = labels.items()
        return sum(value for key, value in self._samples.items() if key[0] == name and wanted <= key[1])

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Of each series that has these labels, by the value of one more."""
        wanted = labels.items()
        found = {key[1]: value for key, value in self._samples.items() if key[0] == name and wanted <= key[1]}
        return {dict(key)[label]: value for key, value in found.items()}

    def gauge(self, name: str, **labels: str) -> float:
        return self._later.get((name, frozenset(labels.items())), 0.0)


def _is_ours(name: str) -> bool:
    return name.startswith("marserve_")


def _is_counter(name: str) -> bool:
    return _is_ours(name) and name != "marserve_workers"


def _of_version(change: _Change, model: str, version: str) -> Rates:
    own = {"model": model, "version": version}
    requests = change.total("marserve_request_seconds_count", **own)
    codes = change.by("code", "marserve_replies_total", **own)
    client_errors, server_errors = (
        sum(count for code, count in codes.items() if code.startswith(kind)) / change.seconds for kind in "45"
    )
    buckets = change.by("le", "marserve_request_seconds_bucket", **own)
    below = {float(bound): count for bound, count in buckets.items()}
    spent = {stage: change.total("marserve_stage_seconds_sum", stage=stage, **own) for stage in STAGES}
    workers = int(change.gauge("marserve_workers", **own))
    stages: dict[str, float | None] = {"queue": _queue(change, own)}
    stages |= {stage: _ratio(seconds, requests) for stage, seconds in spent.items()}
    return Rates(
        **own,
        workers=workers,
        requests=requests / change.seconds,
        client_errors=client_errors,
        server_errors=server_errors,
        batch=_ratio(requests, change.total("marserve_batch_size_count", **own)),
        p50=quantile(0.5, below),
        p99=quantile(0.99, below),
        stages=stages,
        # A batch counts when it ends, also what of it was before the first scrape.
        busy=min(1.0, sum(spent.values()) / (workers * change.seconds)) if workers else None,
    )


def _queue(change: _Change, own: Mapping[str, str]) -> float | None:
    """The mean wait: from the workers where requests say when they came, else from TorchServe's own counters.

    Those count requests that name no version under the version "default": so theirs is the mean of all versions.
    """
    known = change.total("marserve_stage_seconds_count", stage="queue", **own)
    if known:
        return change.total("marserve_stage_seconds_sum", stage="queue", **own) / known
    waited = change.total("ts_queue_latency_microseconds_total", model_name=own["model"]) / 1e6
    return _ratio(waited, change.total("ts_inference_requests_total", model_name=own["model"]))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
