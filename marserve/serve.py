"""`marserve serve` and `marserve stop`: a TorchServe in the foreground or detached, from first check to last word."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from marserve import background
from marserve.archive import Archive
from marserve.background import StopFlag
from marserve.boot.slots import Slots
from marserve.draining import Drain
from marserve.edge import child
from marserve.errors import MarserveError
from marserve.health import Health
from marserve.metrics_page import MetricsPage
from marserve.overrides import Overrides, find_overrides, settings
from marserve.pages import Pages
from marserve.rundir import RunDir, State
from marserve.settings import DEFAULT_PORT, Addresses, addresses, check_free, free_loopback, read_properties
from marserve.state import Keeper, Plan, StateFile, plan
from marserve.torchserve import TorchServe
from marserve.trust import admission

DETACH_TIMEOUT = 150.0  # seconds; longer than a server waits for its own models
STOP_TIMEOUT = 15.0  # seconds that an end takes beyond its grace period
CRASHED_TIMEOUT = 15.0  # seconds that what a killed server has left may take to end
NOTICE = 1.5  # seconds of good service after /health has begun to say 503, where somebody reads it


@dataclass(frozen=True, slots=True)
class Options:
    model_store: Path
    config: Path
    port: int | None
    models: list[str]
    pool: Path | None
    overrides: Path | None  # the folder with them; None ignores all
    grace: float = 20.0  # seconds for what is in flight when the end is asked for
    fresh: bool = False  # nothing of what an earlier server has kept
    edge: Path | None = None  # settings of an edge that is to stand before it
    edge_port: int | None = None


def serve(options: Options) -> None:
    """Serve in the foreground until Ctrl-C, SIGTERM or SIGHUP. Raises MarserveError; leaves no process behind."""
    started = time.monotonic()
    stopping = StopFlag()
    properties = read_properties(options.config)
    listening = addresses(properties, options.port)
    state = StateFile(listening.rest.port, options.model_store)
    # With `models=` TorchServe has settings that a snapshot would replace.
    fresh = options.fresh or bool(options.models) or "models" in properties
    trusted = admission.required(properties, options.config)
    admit = partial(admission.admit, trusted=trusted)
    started_with = plan(options.model_store, options.models, None if fresh else state.read(), admit)
    archives = started_with.archives
    overrides = find_overrides(options.overrides, archives) if options.overrides else {}
    grace = options.grace
    if options.edge:
        grace += child.check(options.edge, options.edge_port, options.config, listening.rest.port)
    rundir = RunDir(listening.rest.port)
    rundir.lock()
    check_free(listening.all(), CRASHED_TIMEOUT if rundir.crashed else 0)
    rundir.make()
    failed, left = True, 0
    try:
        if trusted:
            shutil.copyfile(trusted, rundir.trusted)
        rundir.write_state(State(os.getpid(), ready=False, grace=grace))
        behind = replace(listening, metrics=free_loopback())
        plain = {(one.name, one.version): settings(one, overrides, properties) for one in archives}
        keeper = Keeper(state, started_with, plain)
        health, slots = Health(listening.management, keeper.keep), Slots(rundir.slots)
        with (
            MetricsPage(rundir.metrics, behind.metrics) as metrics,
            Pages(listening.metrics, {"/metrics": metrics.page, "/health": health.page}) as pages,
        ):
            images = pools(options.pool, archives, rundir)
            server = TorchServe(rundir, properties, behind, started_with, images, overrides)
            try:
                pages.start()  # a process that has threads should not fork
                health.start()
                if server.wait_until_ready(stopping):
                    health.serving()
                    health.look()
                    _write_examples(archives, rundir)
                    print(_summary(started_with, overrides, listening, rundir, time.monotonic() - started), flush=True)
                    if keeper.failure:
                        print(f"note: what is served is not kept for the next start: {keeper.failure}", flush=True)
                    with _edge(options, listening) as edge:
                        rundir.write_state(State(os.getpid(), ready=True, grace=grace))
                        server.wait(Either(stopping, edge))
                        if not stopping:
                            raise MarserveError("the edge ended by itself: the server is stopped")
                        health.drain()  # the edge takes no more, answers what it has, and ends
                    drain = Drain(server.pid, listening, slots, lambda: stopping.at_once or server.ended)
                    left = drain.run(NOTICE if health.asked and not options.edge else 0, options.grace)
                failed = False
            finally:
                server.stop(lambda: stopping.at_once)
                health.stop()
        print(f"stopped, with {left} requests unanswered" if left else "stopped", flush=True)
    finally:
        rundir.remove(keep_logs=failed)


class Either:
    """Set when one should stop, or when the edge has ended."""

    def __init__(self, stopping: StopFlag, edge: subprocess.Popen[bytes] | None) -> None:
        self._stopping = stopping
        self._edge = edge

    def __bool__(self) -> bool:
        return bool(self._stopping) or (self._edge is not None and self._edge.poll() is not None)


def _edge(options: Options, listening: Addresses) -> AbstractContextManager[subprocess.Popen[bytes] | None]:
    if options.edge is None:
        return nullcontext()
    return child.running(options.edge, options.edge_port, options.config, listening.rest.port)


def detach(options: Options) -> None:
    """Start `marserve serve` in a session of its own and return when it is ready. Raises MarserveError."""
    listening = addresses(read_properties(options.config), options.port)
    rundir = RunDir(listening.rest.port)
    command = [sys.executable, "-P", "-m", "marserve", "serve", "--model-store", str(options.model_store)]
    command += ["--config", str(options.config), "--grace", f"{options.grace:.3f}s"]
    command += ["--port", str(options.port)] if options.port is not None else []
    command += ["--pool", str(options.pool)] if options.pool else []
    command += ["--overrides", str(options.overrides)] if options.overrides else ["--no-overrides"]
    command += ["--fresh"] if options.fresh else []
    command += ["--edge", str(options.edge)] if options.edge else []
    command += ["--edge-port", str(options.edge_port)] if options.edge_port is not None else []
    command += [word for name in options.models for word in ("--models", name)]
    text = background.start(command, rundir, DETACH_TIMEOUT)
    print(text.replace("Ctrl-C stops it", f"{_stop_command(listening)} stops it"), end="")


def stop(port: int) -> None:
    """Stop the server of that REST port and wait until it is gone. Raises MarserveError where there is none."""
    background.stop(RunDir(port), STOP_TIMEOUT)
    print(f"stopped the server on port {port}")


def pools(pool: Path | None, archives: list[Archive], rundir: RunDir) -> dict[str, str]:
    """For the workers: a pool that replaces every other, or the shipped one for models without their own."""
    if pool is not None:
        return {"MARSERVE_POOL": str(pool.resolve())}
    for archive in archives:
        if prefix := archive.handler.get("pool"):
            archive.unpack(prefix, rundir.root / "pool")
            return {"MARSERVE_DEFAULT_POOL": str(rundir.root / "pool")}
    return {}


def _write_examples(archives: list[Archive], rundir: RunDir) -> None:
    """Unpack the example files, so that the printed commands can be pasted as they are."""
    for archive in archives:
        if "file" in archive.example:
            _example_path(archive, rundir).write_bytes(archive.example_request()[0])


def _example_path(archive: Archive, rundir: RunDir) -> Path:
    return rundir.examples / f"{archive.name}-{archive.version}{Path(archive.example['file']).suffix}"


def _summary(
    plan: Plan, overrides: Mapping[str, Overrides], listening: Addresses, rundir: RunDir, seconds: float
) -> str:
    lines = [f"marserve is ready after {seconds:.1f} s; Ctrl-C stops it", ""]
    for archive in plan.archives:
        versions = sum(other.name == archive.name for other in plan.archives)
        url = f"{listening.rest.url}/predictions/{archive.name}" + (f"/{archive.version}" if versions > 1 else "")
        lines += [f"  {archive.name}  version {archive.version}", f"    {_curl(archive, url, rundir)}"]
        if archive.name in overrides:
            own = overrides[archive.name]
            lines += [f"    overridden by {own.path}: {own.describe(archive)}"]
        lines += [""]
    if plan.said:
        lines += [f"restored    {'; '.join(plan.said)} (--fresh: the model store as it is)"]
    lines += [
        f"REST        {listening.rest.url}",
        f"gRPC        {listening.grpc}",
        f"management  {listening.management.url}/models",
        f"metrics     {listening.metrics.url}/metrics",
        f"health      {listening.metrics.url}/health",
        f"logs        {rundir.logs}",
    ]
    return "\n".join(lines)


def _curl(archive: Archive, url: str, rundir: RunDir) -> str:
    command = ["curl", "-s", url]
    if "json" in archive.example:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(archive.example["json"])]
    elif "file" in archive.example:
        command += ["-T", str(_example_path(archive, rundir))]
    else:
        command += ["-T", "FILE"]
    return shlex.join(command)


def _stop_command(listening: Addresses) -> str:
    port = listening.rest.port
    return "`marserve stop`" if port == DEFAULT_PORT else f"`marserve stop --port {port}`"
