"""One server, started and put under load: its figures, or why there are none."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtest.bench.processes import Tree, free_port
from loadtest.bench.servers import Server, Setup
from loadtest.bench.store import Store
from loadtest.bench.workers import workers
from loadtest.bench.workloads import Ask, Workload
from loadtest.errors import LoadTestError
from marserve import wrk
from marserve.errors import MarserveError

START_TIMEOUT = 180.0  # seconds until every model has answered
WARM_UP = 2.0  # seconds of load before what is measured
FIRST_WARM_UP = 10.0  # and after a start: compilers (Java's among them) translate first what they saw run often
CHECK_EVERY = 0.2  # seconds between two checked answers
SATURATED = 0.9  # of a core: wrk may be what was measured


@dataclass(slots=True)
class Checks:
    """Answers compared while the load runs."""

    right: int = 0
    wrong: int = 0
    first_wrong: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """What one start of a server gave: figures by workload, or an error under the workload's name, or under ""."""

    start_s: float | None = None
    memory_mb: float | None = None
    largest_worker_mb: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)


def visit(
    server: Server, store: Store, workloads: Sequence[Workload], seconds: float, done: Callable[[str], None]
) -> Visit:
    """Start the server, run every workload on it, stop it; `done` hears the name of each workload that is over.

    What goes wrong with a server is part of the result.
    """
    figures: dict[str, Mapping[str, Any]] = {}
    errors: dict[str, str] = {}
    # A short path: sockets are made below it, whose names may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
        try:
            setup = Setup(server.python(), free_port(), os.cpu_count() or 1, store, Path(scratch))
            command, environment = server.launch(setup)
        except (LoadTestError, OSError) as error:
            return Visit(errors={"": str(error)})
        url = f"http://127.0.0.1:{setup.port}"
        started = time.monotonic()
        try:
            with (
                Tree(command, setup.environment | environment, Path(scratch), Path(scratch, "log.txt")) as tree,
                httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
            ):
                first = {ask.model: ask for workload in workloads for ask in reversed(workload.asks)}
                for ask in first.values():
                    _wait(server, client, ask, tree, started + START_TIMEOUT)
                start = time.monotonic() - started
                busiest = max(workloads, key=lambda workload: workload.connections)
                with suppress(MarserveError):  # what cannot be put under load says so below
                    warm_up(server, url, busiest, min(FIRST_WARM_UP, 2 * seconds))
                for workload in workloads:
                    try:
                        figures[workload.name] = load(server, url, workload, seconds)
                    except (MarserveError, httpx.HTTPError, OSError) as error:
                        errors[workload.name] = str(error) or type(error).__name__
                    done(workload.name)
                return Visit(start, tree.memory_mb(), _largest_workers(setup), figures, errors)
        except (LoadTestError, OSError) as error:
            return Visit(figures=figures, errors={**errors, "": str(error)})


def load(server: Server, url: str, workload: Workload, seconds: float) -> dict[str, Any]:
    """One run of wrk after a warm-up, with answers checked beside it. Raises MarserveError."""
    requests = [server.request(ask) for ask in workload.asks]
    warm_up(server, url, workload, min(WARM_UP, seconds))
    checks, stop = Checks(), threading.Event()
    checker = threading.Thread(target=_check, args=(server, url, workload, checks, stop))
    checker.start()
    try:
        found = wrk.run(url, requests, workload.connections, seconds)
    finally:
        stop.set()
        checker.join()
    good = found.requests - found.errors
    return {
        "rps": found.rps * max(0, good) / found.requests,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
        "errors": found.errors,
        "generator_cpu": found.generator_cpu,
        "saturated": found.generator_cpu > SATURATED,
        "checked": checks.right + checks.wrong,
        "wrong": checks.wrong,
        "first_wrong": checks.first_wrong,
    }


def warm_up(server: Server, url: str, workload: Workload, seconds: float) -> None:
    wrk.run(url, [server.request(ask) for ask in workload.asks], workload.connections, seconds)


def _check(server: Server, url: str, workload: Workload, checks: Checks, stop: threading.Event) -> None:
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        for ask in cycle(workload.asks):
            said = _ask(server, client, ask)
            if said is None:
                checks.right += 1
            else:
                checks.wrong += 1
                checks.first_wrong = checks.first_wrong or said
            if stop.wait(CHECK_EVERY):
                return


def _ask(server: Server, client: httpx.Client, ask: Ask) -> str | None:
    """None for the right answer, else what came instead."""
    request = server.request(ask)
    try:
        reply = client.post(request.path, content=request.body, headers=dict(request.headers))
        if reply.status_code != 200:
            return f"{reply.status_code}: {reply.text[:200]}"
        answer = server.answer(reply.headers, reply.content)
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None if ask.is_right(answer) else f"{str(answer)[:200]} in place of {dict(ask.expected)}"


def _wait(server: Server, client: httpx.Client, ask: Ask, tree: Tree, deadline: float) -> None:
    """Return when the answer is right. Raises LoadTestError where none comes, or a wrong one."""
    while (said := _ask(server, client, ask)) is not None:
        if tree.process.poll() is not None:
            raise LoadTestError(f"ended with exit code {tree.process.returncode}: {tree.last_words()}")
        if time.monotonic() > deadline:
            raise LoadTestError(f"no right answer after {START_TIMEOUT:.0f} s: {said}; its log: {tree.last_words()}")
        time.sleep(0.02)


def _largest_workers(setup: Setup) -> dict[str, float]:
    """The largest resident set of a worker by model, MB, of servers with TorchServe's management API; else nothing."""
    largest: dict[str, float] = {}
    try:
        for pid, name in workers(f"http://127.0.0.1:{setup.port + 1}", setup.store.names).items():
            largest[name] = max(largest.get(name, 0.0), psutil.Process(pid).memory_info().rss / 2**20)
    except (httpx.HTTPError, psutil.Error, ValueError, LookupError, TypeError):
        return {}
    return largest
