"""A key that is made or taken back, told to every edge that is running with the same file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from marserve.edge import process
from marserve.edge.haproxy import KEYS
from marserve.edge.keys import Key
from marserve.edge.process import EdgeDir
from marserve.errors import MarserveError


def add(file: Path, key: Key) -> None:
    """Raises MarserveError where an edge does not take it."""
    for rundir in _edges(file):
        _tell(rundir, f"add map {KEYS} {key.sha256} {key.entry}")


def remove(file: Path, key: Key) -> None:
    """Raises MarserveError where an edge does not take it."""
    for rundir in _edges(file):
        _tell(rundir, f"del map {KEYS} {key.sha256}")


def _edges(file: Path) -> Iterator[EdgeDir]:
    return (rundir for rundir in EdgeDir.all_running() if rundir.read_keys_file() == file)


def _tell(rundir: EdgeDir, text: str) -> None:
    """Every worker of it, also those that only end what they have begun."""
    now = process.processes(rundir)
    for pid in now.workers | now.old:
        try:
            reply = process.command(rundir, f"@!{pid} {text}").strip()
        except OSError as error:
            reply = str(error)
        if reply:
            raise MarserveError(
                f"the file is changed, but the edge on port {rundir.port} does not take it ({reply}): "
                f"`marserve edge reload --port {rundir.port}`"
            )
