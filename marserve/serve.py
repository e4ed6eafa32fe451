"""`marserve serve` and `marserve stop`: a TorchServe in the foreground or detached, from first check to last word."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from marserve import background
from marserve.archive import Archive
from marserve.background import StopFlag
from marserve.boot.slots import Slots
from marserve.deaths import Deaths
from marserve.draining import Drain
from marserve.edge import child
from marserve.failures import MARK, tell_failed
from marserve.health import Health
from marserve.metrics_page import MetricsPage
from marserve.overrides import find_overrides, settings, with_overrides
from marserve.pages import Pages
from marserve.rundir import RunDir, State
from marserve.server import Server
from marserve.settings import DEFAULT_PORT, Addresses, addresses, check_free, free_loopback, read_properties
from marserve.state import Keeper, StateFile, plan
from marserve.summary import summary, write_examples
from marserve.torchserve import Setup
from marserve.trust import admission

DETACH_TIMEOUT = math.inf  # a server waits for its own models for as long as their settings say
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
    strict: bool = False  # whether one model that fails is too many


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
    planned = partial(plan, options.model_store, strict=options.strict)
    checked = with_overrides(admit, options.overrides)
    first = planned(options.models, None if fresh else state.read(), checked)
    archives = first.archives
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
        known = _known(options, grace, state)
        rundir.write_state(known)
        behind = replace(listening, metrics=free_loopback())
        plain = {(one.name, one.version): settings(one, overrides, properties) for one in archives}
        keeper = Keeper(state, first, plain)
        health, slots = Health(listening.management, keeper.keep), Slots(rundir.slots)
        deaths, edge_deaths = Deaths("TorchServe"), Deaths("the edge")
        with (
            MetricsPage(rundir.metrics, behind.metrics, (deaths, edge_deaths)) as metrics,
            Pages(listening.metrics, {"/metrics": metrics.page, "/health": health.page}) as pages,
        ):
            setup = Setup(rundir, properties, behind, pools(options.pool, archives, rundir), overrides)
            server = Server(
                setup,
                first,
                keeper,
                lambda seen: planned(list(seen.archives), seen, admit),  # not what is new in the store
                health,
                deaths,
                options.strict,
            )
            try:
                pages.start()  # a process that has threads should not fork, where it need not
                health.start()
                if server.wait_until_ready(stopping):
                    write_examples(server.plan.archives, rundir)
                    seconds = time.monotonic() - started
                    print(summary(server.plan, server.failures, overrides, listening, rundir, seconds), flush=True)
                    if keeper.failure:
                        print(f"note: what is served is not kept for the next start: {keeper.failure}", flush=True)
                    with _edge(options, listening, edge_deaths) as edge:
                        while not stopping:
                            now = replace(known, ready=True, failed=health.failed)
                            if now != known:
                                rundir.write_state(known := now)
                            server.tend(stopping)
                            if edge and not stopping:
                                edge.tend()
                            time.sleep(0.1)
                        health.drain()  # the edge takes no more, answers what it has, and ends
                if server.ready:
                    drain = Drain(server.pid, listening, slots, lambda: stopping.at_once or not server.ready)
                    left = drain.run(NOTICE if health.asked and not options.edge else 0, options.grace)
                failed = False
            finally:
                server.stop(lambda: stopping.at_once)
                health.stop()
        print(f"stopped, with {left} requests unanswered" if left else "stopped", flush=True)
    finally:
        rundir.remove(keep_logs=failed)


def _known(options: Options, grace: float, state: StateFile) -> State:
    """What other commands get to know of it before it is ready."""
    overrides = str(options.overrides.resolve()) if options.overrides else ""
    return State(os.getpid(), False, grace, str(options.model_store.resolve()), overrides, str(state.path))


def _edge(options: Options, listening: Addresses, deaths: Deaths) -> AbstractContextManager[child.Edge | None]:
    if options.edge is None:
        return nullcontext()
    return child.running(options.edge, options.edge_port, options.config, listening.rest.port, deaths)


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
    command += ["--strict"] if options.strict else []
    command += ["--edge", str(options.edge)] if options.edge else []
    command += ["--edge-port", str(options.edge_port)] if options.edge_port is not None else []
    command += [word for name in options.models for word in ("--models", name)]
    text = background.start(command, rundir, DETACH_TIMEOUT)
    for line in text.replace("Ctrl-C stops it", f"{_stop_command(listening)} stops it").splitlines():
        if line.startswith(f"{MARK} "):
            tell_failed(line)
        else:
            print(line)


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


def _stop_command(listening: Addresses) -> str:
    port = listening.rest.port
    return "`marserve stop`" if port == DEFAULT_PORT else f"`marserve stop --port {port}`"
