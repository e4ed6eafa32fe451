"""`marserve edge start`, `check`, `reload`, `stop`: from edge.yaml and the server's settings to a running HAProxy."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from marserve import background
from marserve.background import StopFlag
from marserve.deaths import Deaths, tell
from marserve.edge import keys, process
from marserve.edge.access_log import ROTATE, ROTATE_COPY, AccessLog
from marserve.edge.candidates import MAP
from marserve.edge.haproxy import KEYS, configuration
from marserve.edge.process import EdgeDir, EndedError, HAProxy
from marserve.edge.spec import STDOUT, Spec, read_spec
from marserve.errors import MarserveError
from marserve.management import Management, NoAnswerError, Version
from marserve.rundir import State
from marserve.settings import Addresses, addresses, check_free, read_properties

DETACH_TIMEOUT = 30.0  # seconds
CRASHED_TIMEOUT = 5.0  # seconds that what a killed edge has left may take to end
JOB_QUEUE = 100  # TorchServe's own for each model, unless config.properties says something else


@dataclass(frozen=True, slots=True)
class Options:
    """Where the settings are; `port` and `server_port` move the edge and what it stands before."""

    config: str
    port: int | None
    server_config: str
    server_port: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is known before anything is started."""

    spec: Spec
    server: Addresses
    versions: tuple[Version, ...]  # none where the server does not answer yet


def plan(options: Options) -> Plan:
    """Raises MarserveError for settings that are wrong, or do not go together."""
    properties = read_properties(Path(options.server_config))
    server = addresses(properties, options.server_port)
    spec = read_spec(Path(options.config)).moved(options.port)
    if shared := {address.port for address in spec.listening()} & {address.port for address in server.all()}:
        raise MarserveError(f"port {min(shared)} is the server's: choose another --port for the edge")
    management = Management(server.management)
    try:
        versions = management.versions()
    except NoAnswerError:
        versions = ()
    finally:
        management.close()
    spec = spec.with_models(sorted({version.model for version in versions}))
    queue = properties.get("job_queue_size", "")
    most = (int(queue) if queue.isdecimal() else JOB_QUEUE) // 2
    for name, model in (("model", spec.model), *spec.models.items()):
        if model.in_flight > most:
            raise MarserveError(
                f"{options.config}: in_flight of {name} is {model.in_flight}: REST and gRPC together would overflow "
                f"TorchServe's own queue; {most} at most, or raise job_queue_size in {options.server_config}"
            )
    return Plan(spec, server, versions)


def check(options: Options) -> None:
    """Raises MarserveError for whatever would keep the edge from starting, ports in use aside."""
    found = plan(options)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "haproxy.cfg"
        _write(found, config, None)
        process.check(config)
    print(f"{options.config} is valid")


def start(options: Options) -> None:
    """Run in the foreground until Ctrl-C, SIGTERM or SIGHUP; then let requests end. Leaves no process behind."""
    stopping = StopFlag()
    found = plan(options)
    rundir = EdgeDir(found.spec.rest.port)
    process.find_haproxy()
    rundir.lock()
    check_free(found.spec.listening(), CRASHED_TIMEOUT if rundir.crashed else 0)
    rundir.make()
    state = State(os.getpid(), ready=False, grace=found.spec.limits.drain_seconds)
    try:
        rundir.write_state(state)
        rundir.options.write_text(json.dumps(asdict(options)))
        rundir.write_keys_file(found.spec.keys)
        _write(found, rundir.config, process.jail(rundir.jail))
        process.check(rundir.config)
        deaths = Deaths("HAProxy")
        with _haproxy(rundir, found.spec) as haproxy:
            haproxy.wait_until_ready()
            tell(_summary(found, rundir))
            rundir.write_state(replace(state, ready=True))
            code = haproxy.wait(stopping)
        while code is not None:
            began = time.monotonic()
            deaths.count(code, haproxy.why())
            _write_keys(rundir.config, rundir.read_keys_file())  # some may have been revoked since it was written
            with _haproxy(rundir, found.spec) as haproxy:
                with suppress(EndedError):  # which is counted
                    haproxy.wait_until_ready()
                    tell(f"HAProxy is ready again after {time.monotonic() - began:.1f} s")
                code = haproxy.wait(stopping)
    finally:
        rundir.remove(keep_logs=True)
    tell("the edge is stopped")


@contextmanager
def _haproxy(rundir: EdgeDir, spec: Spec) -> Iterator[HAProxy]:
    """With what it says of requests on its way to the log; none of its processes is left at the end."""
    with _access_log(spec, rundir) as log:
        haproxy = HAProxy(rundir, log.pipe)
        try:
            log.start()
            yield haproxy
        finally:
            haproxy.stop(spec.limits.drain_seconds)


def end_with(parent: int) -> None:
    """Be asked to end when that process, which has started this one, is gone."""
    background.die_with_parent()
    if os.getppid() != parent:
        raise MarserveError("the server is gone already")


def detach(options: Options) -> None:
    """The same in a session of its own; returns when it is ready. Raises MarserveError."""
    rundir = EdgeDir(plan(options).spec.rest.port)
    command = [sys.executable, "-P", "-m", "marserve", "edge", "start"]
    command += ["--config", options.config, "--server-config", options.server_config]
    command += ["--port", str(options.port)] if options.port is not None else []
    command += ["--server-port", str(options.server_port)] if options.server_port is not None else []
    text = background.start(command, rundir, DETACH_TIMEOUT)
    print(text.replace("Ctrl-C stops it", f"`marserve edge stop --port {rundir.port}` stops it"), end="")


def reload(port: int) -> None:
    """Read the settings again, keys included, and go on with them. Raises MarserveError; the old ones stay then."""
    rundir = EdgeDir(port)
    if rundir.running() is None:
        raise MarserveError(f"no {rundir.what} of yours is running on port {port}")
    found = plan(Options(**json.loads(rundir.options.read_text())))
    if found.spec.rest.port != port:
        raise MarserveError(f"listen.rest is on port {found.spec.rest.port} now: stop the edge on {port} and start it")
    with tempfile.TemporaryDirectory(dir=rundir.root) as folder:
        part = Path(folder) / "haproxy.cfg"
        _write(found, part, process.jail(rundir.jail))
        process.check(part)
    _write(found, rundir.config, process.jail(rundir.jail))
    rundir.write_keys_file(found.spec.keys)
    process.reload(rundir)


def stop(port: int) -> None:
    """Drain the edge of that REST port and wait until it is gone. Raises MarserveError where there is none."""
    background.stop(EdgeDir(port), 2 * process.STOP_TIMEOUT)
    print(f"stopped the edge on port {port}")


def _write(found: Plan, config: Path, jail: Path | None) -> None:
    """The configuration and, beside it, the maps of keys and of candidates; each whole or not at all."""
    _write_keys(config, found.spec.keys)
    _write_text(config.with_name(MAP), "")  # who splits says it again
    _write_text(config, configuration(found.spec, found.server, jail))


def _write_keys(config: Path, file: Path | None) -> None:
    _write_text(config.with_name(KEYS), keys.as_map(keys.read(file) if file else ()))


def _write_text(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)


def _access_log(spec: Spec, rundir: EdgeDir) -> AccessLog:
    """A file in any case: `marserve rollout` reads it."""
    on_stdout = str(spec.access_log) == STDOUT
    path = rundir.logs / "access.log" if spec.access_log is None or on_stdout else spec.access_log
    rundir.write_access_log_file(path)
    return AccessLog(path, ROTATE_COPY if on_stdout else ROTATE, on_stdout)


def _summary(found: Plan, rundir: EdgeDir) -> str:
    spec = found.spec
    scheme = "https" if spec.certificate else "http"
    rest = "all other models share one" if spec.models else "all models share one"
    lines = [
        "the edge is ready; Ctrl-C stops it",
        "",
        f"REST        {scheme}://{spec.rest}/predictions/NAME",
        f"gRPC        {spec.grpc}{' (TLS)' if spec.certificate else ''}",
        f"health      {scheme}://{spec.rest}/health",
        f"metrics     {spec.metrics.url}/metrics",
        f"keys        {spec.keys or 'none are asked for'}",
        f"server      {found.server.rest.url}{'' if found.versions else ' (does not answer yet)'}",
        f"queues      {', '.join([*spec.models, rest])}",
    ]
    for version in found.versions:
        patience = spec.models[version.model].reply_seconds
        if (own := version.settings["responseTimeout"]) >= patience:
            lines.append(
                f"note        {version.model} may take {own} s (responseTimeout), the edge waits {patience:g} s"
            )
    on_stdout = str(spec.access_log) == STDOUT
    access = "standard output" if on_stdout else str(rundir.read_access_log_file())
    return "\n".join([*lines, f"access log  {access}", f"logs        {rundir.logs}"])
