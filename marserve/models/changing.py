"""Changes to versions that are there: which is the default, how many workers one has, and that it goes.

None of them costs a request: one is queued for a version when it comes, and stays with it when another becomes the
default; what an ended worker had in hand goes to the next one (front_end.py); and a version is removed when nothing
is in its queue any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from marserve.boot.slots import Slots
from marserve.draining import INTERVAL, QUIET
from marserve.errors import MarserveError
from marserve.management import Version
from marserve.models.audit import DONE, ROLLBACK
from marserve.models.running import Running
from marserve.readiness import TIMEOUT, Readiness


@dataclass(frozen=True, slots=True)
class Switched:
    """A model's default version."""

    model: str
    was: str
    now: str
    kept: bool  # whether the next start brings it back


def promote(server: Running, name: str, version: str, action: str = "promote", detail: str = "") -> Switched:
    """Make a version the default; nothing to do where it is that already.

    Raises MarserveError, also where none of its workers is READY. `action` and `detail` are for the audit log.
    """
    with server.audit.turn():
        return _switch(server, server.default(name), server.version(name, version), action, detail)


def rollback(server: Running, name: str, detail: str = "") -> Switched:
    """Make that version the default which it was before. Raises MarserveError where there is none any more."""
    with server.audit.turn():
        found = {one.version: one for one in server.versions(name)}
        current = server.default(name)
        before = server.audit.previous_default(name, current.version)
        if before is None:
            raise MarserveError(
                f"{name}: no default before {current.version} is known; `marserve models promote {name} VERSION` "
                f"takes one of {', '.join(found)}"
            )
        if before not in found:
            reason = f"{name} {before}, the default before, is not registered: {_how_back(server, name, before)}"
            server.audit.record(ROLLBACK, name, current.version, before, detail=reason, failed=True)
            raise MarserveError(reason)
        return _switch(server, current, found[before], ROLLBACK, detail)


def scale(
    server: Running, one: Version, minimum: int, maximum: int, progress: Callable[[str], None] = lambda _: None
) -> int:
    """Give a version so many workers, and return how many there are once all are READY. Raises MarserveError.

    Where they do not get ready, it is asked for as many as before.
    """
    name, version = one.model, one.version
    before = one.settings["minWorkers"], one.settings["maxWorkers"]
    words = " -> ".join(_range(*pair) for pair in (before, (minimum, maximum)))
    with server.audit.change("scale", name, version, version, str(server.archive(one)), server.digest(one), words):
        readiness = Readiness(server.listening, server.rundir.logs, server.check)
        server.management.scale(name, version, minimum, maximum)
        progress(f"{name} {version}: workers {words}")
        try:
            return len(readiness.wait_for_workers(name, version, time.monotonic() + TIMEOUT))
        except BaseException:
            server.management.scale(name, version, *before)
            raise
        finally:
            readiness.close()


def remove(
    server: Running,
    one: Version,
    force: bool,
    patience: float,
    progress: Callable[[str], None] = lambda _: None,
) -> bool:
    """Unregister a version once its requests are answered; whether the next start leaves it out. Raises MarserveError.

    The default goes only where it is the only version, with `force`; so does one that is still asked after `patience`
    seconds.
    """
    name, version = one.model, one.version
    with (
        server.audit.turn(),
        server.audit.change("remove", name, version, "", str(server.archive(one)), server.digest(one)),
    ):
        if server.default(name).version == version:
            if len(server.versions(name)) > 1:
                raise MarserveError(f"{name} {version} is the default: promote another version, then remove this one")
            if not force:
                raise MarserveError(f"{name} {version} is the only version: --force removes the model")
        progress(f"{name} {version}: its requests are being answered")
        left = _drain(server, name, version, patience)
        if left and not force:
            raise MarserveError(
                f"{name} {version} is still being asked by its version after {patience:.0f} s ({left} requests): "
                "--force removes it all the same"
            )
        server.management.unregister(name, version)
        return server.keeps(lambda found: all((kept.model, kept.version) != (name, version) for kept in found))


def _switch(server: Running, current: Version, target: Version, action: str, detail: str) -> Switched:
    """Another default. In the caller's turn."""
    name, was, now = target.model, current.version, target.version
    with server.audit.change(
        action, name, was, now, str(server.archive(target)), server.digest(target), detail, default_changed=True
    ):
        if not target.ready:
            raise MarserveError(
                f"{name} {now} has no worker that is READY: `marserve models scale {name}:{now} --workers 1` starts one"
            )
        if was != now:
            server.management.set_default(name, now)
    kept = server.keeps(lambda found: any((one.model, one.version, one.default) == (name, now, True) for one in found))
    return Switched(name, was, now, kept)


def _drain(server: Running, name: str, version: str, patience: float) -> int:
    """Wait until the version has nothing to answer; how many requests it has if it still has after so many seconds."""
    slots = Slots(server.rundir.slots)
    deadline = time.monotonic() + patience
    quiet = 0
    while True:
        one, work = server.version(name, version), slots.work()
        left = one.pending + sum(work[worker.pid].working for worker in one.workers if worker.pid in work)
        quiet = 0 if left else quiet + 1
        if quiet == QUIET or time.monotonic() > deadline:
            return left
        time.sleep(INTERVAL)


def _how_back(server: Running, name: str, version: str) -> str:
    """What to type to have a version again that is not registered any more."""
    for entry in server.audit.entries(name):
        about = entry.to_version if entry.to_version else entry.from_version
        if about == version and entry.archive and entry.outcome == DONE:
            return (
                f"`marserve models register {entry.archive}` (SHA-256 {entry.digest}), "
                f"then `marserve models rollback {name}`"
            )
    return "register its archive again, then roll back"


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"
