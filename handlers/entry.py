"""The module that TorchServe loads. Its loader demands exactly one class here; everything else is imported."""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handlers import archive, interface, metrics, pipeline, selftest, spec
from handlers.accept import JSON
from handlers.options import from_headers
from handlers.reply import Reply

log = logging.getLogger(__name__)

# Whoever warms a server up asks which worker has answered, to know when all of them have.
WARM_UP_HEADER = "marserve-warm-up"
WORKER_HEADER = "marserve-worker"
# TorchServe's own: it puts "False" on every REST request, and behind that "True" on one to /explanations. A client's
# header of this name comes before both; gRPC has none.
EXPLAIN_HEADER = "explain"
# What a client would like as a reply; gRPC has neither headers nor a content type, so its replies are JSON.
ACCEPT, LOWER_ACCEPT = "Accept", "accept"
# When a proxy in front got the request. TorchServe hands names over as they came, and proxies may lower-case them.
REQUEST_START, LOWER_REQUEST_START = "X-Request-Start", "x-request-start"
# Keys of handler.network that replace the archive's on this machine: {model: {key: value}} as JSON.
OVERRIDES = "MARSERVE_OVERRIDES"
# Between marserve's worker (marserve/boot/worker.py) and this: the limit that it keeps, and whether it has replaced one
# that had passed it. A bare TorchServe looks at neither.
MEMORY_LIMIT, RESUME = "MARSERVE_MEMORY_LIMIT_MB", "MARSERVE_RESUME"


class Handler:
    """Between TorchServe's calling convention and `pipeline`."""

    def initialize(self, context: Any) -> None:
        """Check and load the unpacked archive, run its network once, and hold it to its own self-test.

        Raises SpecError.
        """
        properties = context.system_properties
        folder = Path(properties["model_dir"])
        gpu_id = properties.get("gpu_id")
        archive.check_digests(folder)
        read = spec.read_spec(_with_overrides(context))
        self._pipeline = pipeline.Pipeline.load(
            folder, read, None if gpu_id is None else int(gpu_id), _pool_folder(folder, read)
        )
        network = self._pipeline.network
        interface.check(folder, read, network)
        started = time.perf_counter()
        cases = selftest.replay(folder, self._pipeline)
        took = 1000 * (time.perf_counter() - started)
        log.info("loaded on %s; %d self-tests, %.0f ms", network.provider if network else "no network", cases, took)
        self.metrics = metrics.load(context)
        _settle()
        os.environ[MEMORY_LIMIT] = str(_memory_limit(read.memory_limit_mb))
        if self.metrics and RESUME in os.environ:
            self.metrics.replaced()
        _silence(context)

    def handle(self, rows: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One batch: a body and a status for each request."""
        began = time.time()
        requests = context.request_processor
        headers = [request.get_request_properties() for request in requests]
        if options := self._pipeline.options:
            rows = [from_headers(own, options) | row for row, own in zip(rows, headers, strict=True)]
        replies = self._pipeline(rows, list(map(_wish, headers)))
        for request, own, reply in zip(requests, headers, replies, strict=True):
            request.add_response_property("content-type", reply.media_type)
            for name, value in reply.headers:
                request.add_response_property(name, value)
            if own.get(WARM_UP_HEADER):
                request.add_response_property(WORKER_HEADER, str(os.getpid()))
            if reply.status != 200:
                request.report_status(reply.status.value, reply.status.phrase)
        self.measure(replies, headers, began)
        return [reply.body for reply in replies]

    def measure(self, replies: list[Reply], headers: list[dict[str, Any]], began: float) -> None:
        """Add the latest batch to the metrics, where there are any; `began` is in seconds since the epoch."""
        if self.metrics:
            starts = [own.get(REQUEST_START) or own.get(LOWER_REQUEST_START) for own in headers]
            waits = [metrics.waited(start, began) if start else None for start in starts]
            self.metrics.observe(self._pipeline.stages.seconds, [reply.status for reply in replies], waits)


def _wish(headers: Mapping[str, Any]) -> pipeline.Wish:
    """What a request's headers ask for. A field of a form has a mapping under its name, not text."""
    explain = headers.get(EXPLAIN_HEADER)
    accept = JSON if explain is None else headers.get(ACCEPT) or headers.get(LOWER_ACCEPT)
    return pipeline.Wish(explain == "True", accept if isinstance(accept, str) else None)


def _settle() -> None:
    """What is loaded now stays: the garbage collector need not look at it again, a fifth of a worker's time otherwise.

    What loading took and no longer needs goes back to the system: 12 to 17 MB of a forest's worker.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl and macOS have none
    if trim is not None:
        trim(0)


def _memory_limit(limit: int) -> int:
    """The limit; none where a fresh worker is over it, since another one would be as large."""
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if limit else 0
    resident = pages * os.sysconf("SC_PAGE_SIZE") // 10**6
    if resident <= limit:
        return limit
    log.warning(
        "handler.memory_limit_mb is %d, but a fresh worker takes %d MB: there is no limit now, raise it",
        limit,
        resident,
    )
    return 0


def _silence(context: Any) -> None:
    """TorchServe's worker would log a line per request, and one per batch that is a metric: that is not even made."""
    logging.getLogger().setLevel(logging.WARNING)
    if own := getattr(context, "metrics", None):
        own.add_time = lambda *_, **__: None


def _with_overrides(context: Any) -> Any:
    """The model's YAML with what MARSERVE_OVERRIDES has for it."""
    config = context.model_yaml_config
    text = os.environ.get(OVERRIDES)
    network = json.loads(text).get(context.model_name) if text else None
    if not network or not isinstance(config, Mapping):
        return config
    section = config["handler"]
    return {**config, "handler": {**section, "network": {**section["network"], **network}}}


def _pool_folder(folder: Path, read: spec.HandlerSpec) -> Path | None:
    """MARSERVE_POOL replaces every pool; MARSERVE_DEFAULT_POOL is for models that carry none."""
    own = folder / read.pool if read.pool else None
    replacing, default = os.environ.get("MARSERVE_POOL"), os.environ.get("MARSERVE_DEFAULT_POOL")
    return Path(replacing) if replacing else own or (Path(default) if default else None)
