"""A model's candidate gets a share of a running edge's requests, for as long as that is said again and again.

Everything here costs less than a millisecond, and raises MarserveError where the edge does not answer or not obey.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from marserve.edge import process
from marserve.edge.candidates import LEASE, MAP, TABLE, WHOLE, backend
from marserve.edge.process import EdgeDir, Processes
from marserve.edge.spec import MODEL_NAME
from marserve.errors import MarserveError

__all__ = ["LEASE", "clear", "in_flight", "knows", "set_share"]

PROTOCOLS = ("rest", "grpc")


def set_share(rundir: EdgeDir, model: str, version: str, share: float) -> None:
    """Let `version` have that part, from 0 to 1, of the requests that name no version, for LEASE seconds from now.

    A reload forgets it; the workers that end what they have begun before one are told too.
    """
    _check(model, version)
    if not 0 <= share <= 1:
        raise MarserveError(f"the share of a candidate must be from 0 to 1, not {share}")
    workers = _workers(rundir)
    if not _all_know(rundir, workers, model):
        raise MarserveError(
            f"the edge on port {rundir.port} has no place for a candidate of {model}: "
            f"`marserve edge reload --port {rundir.port}`"
        )
    table = f"set table {TABLE} key {model} data.gpt0 {round(share * WHOLE)}"
    for pid in workers.workers | workers.old:
        said = _ask(rundir, pid, f"set map {MAP} {model} {version}", table)
        if said == "entry not found.":
            said = _ask(rundir, pid, f"add map {MAP} {model} {version}")
        if said and pid in workers.workers:
            raise MarserveError(f"the edge on port {rundir.port} does not take a candidate of {model}: {said}")


def clear(rundir: EdgeDir, model: str) -> None:
    """From the next request on the default version has all that name no version. Not being split already is fine."""
    _check(model)
    workers = _workers(rundir)
    for pid in workers.workers | workers.old:
        said = _ask(rundir, pid, f"clear table {TABLE} key {model}", f"del map {MAP} {model}")
        if said not in ("", "Key not found.") and pid in workers.workers:
            raise MarserveError(f"the edge on port {rundir.port} does not take {model}'s share back: {said}")


def in_flight(rundir: EdgeDir, model: str) -> int:
    """The requests that are with the candidate now or wait for it, over REST and gRPC."""
    _check(model)
    workers = _workers(rundir)
    return sum(
        int(row[4])  # scur: the sessions that a backend has, those in its queue among them
        for pid in workers.workers | workers.old
        for row in _statistics(rundir, pid, model)
    )


def knows(rundir: EdgeDir, model: str) -> bool:
    """Whether a candidate of that model would have a queue; one that was registered since needs a reload."""
    _check(model)
    return _all_know(rundir, _workers(rundir), model)


def _all_know(rundir: EdgeDir, workers: Processes, model: str) -> bool:
    return all(len(list(_statistics(rundir, pid, model))) == len(PROTOCOLS) for pid in workers.workers)


def _statistics(rundir: EdgeDir, pid: int, model: str) -> Iterator[list[str]]:
    """One row of numbers for each of the candidate's backends, if they are there."""
    backends = 2  # what HAProxy calls the type
    text = _ask(rundir, pid, *(f"show stat {backend(protocol, model)} {backends} -1" for protocol in PROTOCOLS))
    rows = (line.split(",") for line in text.splitlines())
    return (row for row in rows if len(row) > 4 and row[1] == "BACKEND")


def _workers(rundir: EdgeDir) -> Processes:
    found = process.processes(rundir)
    if not found.workers:
        raise MarserveError(f"the edge on port {rundir.port} does not answer")
    return found


def _ask(rundir: EdgeDir, pid: int, *commands: str) -> str:
    """What a worker says to these, nothing if it has no objection."""
    try:
        return process.command(rundir, "; ".join(f"@!{pid} {command}" for command in commands)).strip()
    except OSError as error:
        raise MarserveError(f"the edge on port {rundir.port} does not answer: {error.strerror or error}") from None


def _check(*names: str) -> None:
    """They become parts of commands."""
    for name in names:
        if not re.fullmatch(MODEL_NAME, name):
            raise MarserveError(f"{name!r} is no name of a model or version")
