"""Where a worker's time goes, in prometheus_client's multiprocess files: whoever reads them all has every worker's sum.

Only where PROMETHEUS_MULTIPROC_DIR names a folder and prometheus_client is installed: a bare TorchServe serves without.
A batch is only noted, since a write costs as much as a request; a thread writes what was noted a few times a second.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Histogram

log = logging.getLogger(__name__)

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
STAGES = ("decode", "run", "encode")  # what a worker does; "queue" is what a request did before
# Seconds. A percentile is a guess within its bucket, so neighbours are at most twice apart.
SECONDS = (
    0.0005,
    0.00075,
    0.001,
    0.0015,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.75,
    1,
    1.5,
    2,
    3,
    5,
)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
WRITING = 0.2  # seconds between two writes
LONGEST_WAIT = 3600.0  # seconds; a start that is longer ago is no start


class Stages:
    """The seconds that each stage of the latest batch took."""

    __slots__ = ("_since", "seconds")

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._since = time.perf_counter()

    def end(self, stage: str) -> None:
        """All since the end of the stage before was of this one."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._since
        self._since = now


class _Batch(NamedTuple):
    stages: Mapping[str, float]  # seconds
    codes: Sequence[int]
    waits: Sequence[float | None]  # seconds


class Metrics:
    """The series of one version of a model in this process."""

    def __init__(self, model: str, version: str, registry: CollectorRegistry | None = None) -> None:
        """Makes the process' files where FOLDER is set. Raises OSError where they cannot be made."""
        from prometheus_client import Counter as Count
        from prometheus_client import Histogram

        labels, own = ("model", "version"), (model, version)
        stages = Histogram(
            "marserve_stage_seconds",
            "Seconds of a batch in a stage; of stage queue: of a request, from its proxy to a worker.",
            (*labels, "stage"),
            buckets=SECONDS,
            registry=registry,
        )
        self._stages = {stage: stages.labels(*own, stage) for stage in ("queue", *STAGES)}
        self._requests = Histogram(
            "marserve_request_seconds",
            "Seconds of a request in its worker, and in the queue where its proxy said when it came.",
            labels,
            buckets=SECONDS,
            registry=registry,
        ).labels(*own)
        self._sizes = Histogram(
            "marserve_batch_size", "Requests in a batch.", labels, buckets=SIZES, registry=registry
        ).labels(*own)
        self._replies = Count("marserve_replies", "Replies by HTTP status.", (*labels, "code"), registry=registry)
        self._replacements = Count(
            "marserve_worker_replacements",
            "Workers replaced since their memory had passed the model's limit.",
            labels,
            registry=registry,
        ).labels(*own)
        self._own = own
        self._codes = {200: self._replies.labels(*own, 200)}
        self._noted: deque[_Batch] = deque()  # safe to fill and empty from two threads
        self._writing = threading.Lock()
        threading.Thread(target=self._keep_writing, name="metrics", daemon=True).start()
        atexit.register(self.write)

    def observe(self, stages: Mapping[str, float], codes: Sequence[int], waits: Sequence[float | None]) -> None:
        """One batch: the seconds of its stages, each request's HTTP status, and its seconds in the queue if known."""
        self._noted.append(_Batch(stages, codes, waits))

    def replaced(self) -> None:
        """This process took the place of one whose memory had passed the limit."""
        self._replacements.inc()

    def write(self) -> None:
        """Add what was noted to the series."""
        with self._writing:
            batches = [self._noted.popleft() for _ in range(len(self._noted))]
            if not batches:
                return
            for stage in STAGES:
                observe_all(self._stages[stage], [batch.stages[stage] for batch in batches if stage in batch.stages])
            waits = [wait for batch in batches for wait in batch.waits if wait is not None]
            observe_all(self._stages["queue"], waits)
            worked = [sum(batch.stages.values()) for batch in batches]
            pairs = zip(worked, batches, strict=True)
            observe_all(self._requests, [seconds + (wait or 0.0) for seconds, batch in pairs for wait in batch.waits])
            observe_all(self._sizes, [len(batch.codes) for batch in batches])
            for code, count in Counter(code for batch in batches for code in batch.codes).items():
                if code not in self._codes:
                    self._codes[code] = self._replies.labels(*self._own, code)
                self._codes[code].inc(count)

    def _keep_writing(self) -> None:
        while True:
            time.sleep(WRITING)
            self.write()


def load(context: Any) -> Metrics | None:
    """The metrics of the model that TorchServe's context describes; none where nobody collects them."""
    if FOLDER not in os.environ or importlib.util.find_spec("prometheus_client") is None:
        return None
    try:
        return Metrics(context.model_name, str(context.manifest["model"]["modelVersion"]))
    except OSError as error:
        log.warning("no metrics: %s=%s cannot be written to: %s", FOLDER, os.environ[FOLDER], error)
        return None


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """As `histogram.observe` on each value, but each bucket is written to once.

    prometheus_client has no public call for it: a test holds this against its `observe`.
    """
    histogram._sum.inc(sum(values))
    for bucket, count in Counter(bisect_left(histogram._upper_bounds, value) for value in values).items():
        histogram._buckets[bucket].inc(count)


def waited(start: object, now: float) -> float | None:
    """Seconds from a proxy's X-Request-Start until `now`, which counts from the epoch; None without a sane one.

    The header is `t=` and the time since the epoch: NGINX writes seconds, HAProxy milliseconds, Apache microseconds.
    """
    if not isinstance(start, str):
        return None
    try:
        came = float(start.strip().removeprefix("t="))
    except ValueError:
        return None
    for unit in (1.0, 1e3, 1e6):
        wait = now - came / unit
        if 0 <= wait < LONGEST_WAIT:
            return wait
    return None
