"""`marserve serve` and `marserve stop`: a TorchServe in the foreground or detached, from first check to last word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from marserve.archive import Archive, find_archives
from marserve.errors import MarserveError
from marserve.rundir import RunDir, State
from marserve.settings import DEFAULT_PORT, Addresses, addresses, check_free, read_properties
from marserve.torchserve import TorchServe

DETACH_TIMEOUT = 150.0  # seconds; longer than a server waits for its own models
STOP_TIMEOUT = 30.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Options:
    model_store: Path
    config: Path
    port: int | None
    models: list[str]
    pool: Path | None


class _StopError(Exception):
    """A signal asked for the end."""


def serve(options: Options) -> None:
    """Serve in the foreground until Ctrl-C, SIGTERM or SIGHUP. Raises MarserveError; leaves no process behind."""
    started = time.monotonic()
    archives = find_archives(options.model_store, options.models)
    properties = read_properties(options.config)
    listening = addresses(properties, options.port)
    rundir = RunDir(listening.rest.port)
    rundir.take()
    failed = True
    try:
        check_free(listening)
        rundir.write_state(State(os.getpid(), ready=False))
        pool = options.pool or _shipped_pool(archives, rundir)
        with _signals_raise():
            server = TorchServe(rundir, properties, listening, options.model_store, archives, pool)
            try:
                server.wait_until_ready()
                _write_examples(archives, rundir)
                print(_summary(archives, listening, rundir, time.monotonic() - started), flush=True)
                rundir.write_state(State(os.getpid(), ready=True))
                code = server.wait()
                raise MarserveError(f"TorchServe ended by itself with exit code {code} (logs: {rundir.logs})")
            except _StopError:
                failed = False
            finally:
                _ignore_signals()
                server.stop()
        print("stopped", flush=True)
    finally:
        rundir.remove(keep_logs=failed)


def detach(options: Options) -> None:
    """Start `marserve serve` in a session of its own and return when it is ready. Raises MarserveError."""
    listening = addresses(read_properties(options.config), options.port)
    rundir = RunDir(listening.rest.port)
    command = [sys.executable, "-m", "marserve", "serve", "--model-store", str(options.model_store)]
    command += ["--config", str(options.config)]
    command += ["--port", str(options.port)] if options.port is not None else []
    command += ["--pool", str(options.pool)] if options.pool else []
    command += [word for name in options.models for word in ("--models", name)]
    with rundir.output.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + DETACH_TIMEOUT
    while child.poll() is None:
        state = rundir.running()
        if state is not None and state.pid == child.pid and state.ready:
            print(rundir.output.read_text().replace("Ctrl-C stops it", f"{_stop_command(listening)} stops it"), end="")
            return
        if time.monotonic() > deadline:
            child.terminate()
            raise MarserveError(f"not ready after {DETACH_TIMEOUT:.0f} s (logs: {rundir.logs})")
        time.sleep(0.05)
    raise MarserveError(rundir.output.read_text().strip().removeprefix("error: ") or "the server ended at once")


def stop(port: int) -> None:
    """Stop the server of that REST port and wait until it is gone. Raises MarserveError where there is none."""
    rundir = RunDir(port)
    state = rundir.running()
    if state is None:
        raise MarserveError(f"no marserve of yours is running on port {port}")
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while rundir.running() is not None:
        if time.monotonic() > deadline:
            raise MarserveError(f"process {state.pid} has not ended after {STOP_TIMEOUT:.0f} s")
        time.sleep(0.05)
    print(f"stopped the server on port {port}")


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Inside, Ctrl-C, SIGTERM and SIGHUP raise _StopError, which ends the block."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise _StopError

    for number in _SIGNALS:
        signal.signal(number, handle)
    with suppress(_StopError):
        yield


def _ignore_signals() -> None:
    """A second Ctrl-C must not interrupt the stopping: what it started would be left behind."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _shipped_pool(archives: list[Archive], rundir: RunDir) -> Path | None:
    """The pool that an archive of this server carries, unpacked: models without their own draw from it too."""
    for archive in archives:
        if archive.handler.get("pool"):
            archive.unpack(archive.handler["pool"], rundir.root / "pool")
            return rundir.root / "pool"
    return None


def _write_examples(archives: list[Archive], rundir: RunDir) -> None:
    """Unpack the example files, so that the printed commands can be pasted as they are."""
    for archive in archives:
        if name := archive.handler.get("example", {}).get("file"):
            _example_path(archive, rundir).write_bytes(archive.read(name))


def _example_path(archive: Archive, rundir: RunDir) -> Path:
    return rundir.examples / (archive.name + Path(archive.handler["example"]["file"]).suffix)


def _summary(archives: list[Archive], listening: Addresses, rundir: RunDir, seconds: float) -> str:
    lines = [f"marserve is ready after {seconds:.1f} s; Ctrl-C stops it", ""]
    for archive in archives:
        lines += [f"  {archive.name}  version {archive.version}", f"    {_curl(archive, listening, rundir)}", ""]
    lines += [
        f"REST        {listening.rest.url}",
        f"gRPC        {listening.grpc}",
        f"management  {listening.management.url}/models",
        f"metrics     {listening.metrics.url}/metrics",
        f"logs        {rundir.logs}",
    ]
    return "\n".join(lines)


def _curl(archive: Archive, listening: Addresses, rundir: RunDir) -> str:
    url = f"{listening.rest.url}/predictions/{archive.name}"
    example = archive.handler.get("example", {})
    if "json" in example:
        return f"curl -s {url} -H 'Content-Type: application/json' -d '{json.dumps(example['json'])}'"
    if "file" in example:
        return f"curl -s {url} -T {_example_path(archive, rundir)}"
    return f"curl -s {url} -T FILE"


def _stop_command(listening: Addresses) -> str:
    port = listening.rest.port
    return "`marserve stop`" if port == DEFAULT_PORT else f"`marserve stop --port {port}`"
