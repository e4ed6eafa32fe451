"""A canary from first check to last word: what has to be there, and what is made of its outcome."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from marserve.background import StopFlag
from marserve.edge import run as edge_run
from marserve.edge import split
from marserve.edge.process import EdgeDir
from marserve.errors import MarserveError
from marserve.management import Version
from marserve.models.changing import promote
from marserve.models.running import Running
from marserve.rollout.canary import Canary, Options, Outcome, Step
from marserve.settings import addresses, read_properties
from marserve.shadow import priority

ACTION = "rollout"  # in the audit log


@dataclass(frozen=True, slots=True)
class Target:
    """Which version of which model, at which server and edge."""

    model: str
    version: str
    port: int
    edge_port: int


def roll_out(target: Target, options: Options, stopping: StopFlag, show: Callable[[Step], None]) -> Outcome:
    """Step by step, until it is the default or its requests are the old version's again. Raises MarserveError.

    To be called within `alone`.
    """
    steps = ", ".join(f"{100 * share:g} %" for share in options.steps)
    with Running(target.port) as server:
        old, new = _find(server, target)
        edge = _find_edge(target)
        priority.restore(server.listening.management, server.rundir.slots, target.model, target.version)
        outcome = Canary(edge, target.model, old.version, new.version, options).run(
            lambda: server.default(target.model).version,
            lambda: promote(server, target.model, target.version, ACTION, f"canary {steps}"),
            stopping,
            show,
        )
        if outcome.reason:
            archive, digest = str(server.archive(new)), server.digest(new)
            server.audit.record(
                ACTION, target.model, old.version, new.version, digest, outcome.reason, archive=archive, failed=True
            )
        return outcome


@contextmanager
def alone(target: Target) -> Iterator[None]:
    """No other rollout of this model meanwhile. Raises MarserveError where there is one."""
    path = EdgeDir(target.edge_port).base() / f"rollout-{target.port}-{target.model}.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise MarserveError(f"another rollout of {target.model} is under way") from None
    finally:
        os.close(lock)


def _find(server: Running, target: Target) -> tuple[Version, Version]:
    """The default version and the one that is to follow it. Raises MarserveError where it cannot."""
    new = server.version(target.model, target.version)
    if new.default:
        raise MarserveError(f"{target.model} {target.version} is the default already")
    if not new.ready or new.ready < len(new.workers):
        raise MarserveError(
            f"{new.ready} of {len(new.workers)} workers of {target.model} {target.version} are READY: `marserve models "
            f"scale {target.model}:{target.version} --workers 1` starts one, and the server's logs say what is wrong"
        )
    return server.default(target.model), new


def _find_edge(target: Target) -> EdgeDir:
    """The running edge before the server, with a queue for the candidate. Raises MarserveError."""
    edge = EdgeDir(target.edge_port)
    if edge.running() is None:
        raise MarserveError(
            f"no marserve edge of yours is running on port {target.edge_port}, and a canary needs one that splits: "
            "`marserve serve --edge edge.yaml` starts both, --edge-port names another"
        )
    options = edge_run.Options(**json.loads(edge.options.read_text()))
    behind = addresses(read_properties(Path(options.server_config)), options.server_port).rest.port
    if behind != target.port:
        raise MarserveError(
            f"the edge on port {target.edge_port} is before the server on port {behind}: name it by --port"
        )
    if not split.knows(edge, target.model):
        edge_run.reload(target.edge_port)  # the model was registered after the edge's start
    return edge
