"""A further version on a running server: its workers READY and each of them with an answer, or nothing of it is left.

It gets the settings that a start would give it. TorchServe reads those of the archive's own YAML and of `models=`
itself; what overrides say of batches goes with the registration. Of workers it takes the YAML's whatever it is asked
for, so that other numbers follow when these are there: one that is ended while it starts could be missed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from marserve.archive import Archive
from marserve.errors import MarserveError
from marserve.management import NoAnswerError, RefusedError
from marserve.models.placing import ACTION, placed
from marserve.models.running import Running
from marserve.overrides import Overrides, find_overrides, settings
from marserve.readiness import TIMEOUT, Readiness
from marserve.state import digest

WORKERS = ("minWorkers", "maxWorkers")
BATCHES = {"batchSize": "batch_size", "maxBatchDelay": "max_batch_delay"}


@dataclass(frozen=True, slots=True)
class Registered:
    archive: Archive  # where it is in the model store
    workers: int
    kept: bool  # whether the next start brings it back


def register(
    server: Running,
    path: Path,
    workers: int | None = None,
    new_interface: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Registered:
    """Add what is in that archive, with so many workers or as many as its settings say. Raises MarserveError.

    One that clients of the default version could not go on with only with `new_interface`.
    """
    with placed(server, path, new_interface) as archive:
        name, version = archive.name, archive.version
        overrides = find_overrides(server.overrides, [archive]) if server.overrides else {}
        wanted = (workers, workers) if workers else usual_workers(archive, overrides, server.properties)
        with server.audit.change(
            ACTION, name, to_version=version, archive=str(archive.path), digest=digest(archive.path)
        ):
            readiness = Readiness(server.listening, server.rundir.logs, server.check)
            progress(f"{name} {version}: registering")
            _post(server, archive, wanted[0], overrides)
            try:
                count = _wait(server, readiness, archive, wanted, progress)
            except BaseException as error:
                _take_away(server, archive, error)
                raise
            finally:
                readiness.close()
        kept = server.keeps(lambda found: any((one.model, one.version) == (name, version) for one in found))
        return Registered(archive, count, kept)


def _post(server: Running, archive: Archive, workers: int, overrides: Mapping[str, Overrides]) -> None:
    """Not synchronously: until the workers are there TorchServe would answer nobody else."""
    changed = overrides[archive.name].server if archive.name in overrides else {}
    batches = {parameter: changed[key] for key, parameter in BATCHES.items() if key in changed}
    try:
        server.management.register(archive.path.name, synchronous="false", initial_workers=workers, **batches)
    except NoAnswerError as error:
        _take_away(server, archive, error)
        raise


def _wait(
    server: Running,
    readiness: Readiness,
    archive: Archive,
    wanted: tuple[int, int],
    progress: Callable[[str], None],
) -> int:
    """How many workers there are, once each of them has answered. Raises MarserveError."""
    name, version = archive.name, archive.version
    deadline = time.monotonic() + TIMEOUT
    progress(f"{name} {version}: its workers are loading")
    pids = readiness.wait_for_workers(name, version, deadline)
    if wanted != (_own_workers(archive) or (wanted[0], wanted[0])):
        server.management.scale(name, version, *wanted)
        pids = readiness.wait_for_workers(name, version, deadline)
    progress(f"{name} {version}: each worker is asked for the archive's example")
    readiness.warm_up(archive, pids, deadline)
    return len(pids)


def _take_away(server: Running, archive: Archive, error: BaseException) -> None:
    """What did not get ready. Raises MarserveError with both reasons where it cannot be."""
    try:
        server.management.unregister(archive.name, archive.version)
    except RefusedError as refusal:
        if refusal.status != 404:
            raise MarserveError(f"{error}; and it is still registered: {refusal}") from None
    except NoAnswerError as silence:
        raise MarserveError(f"{error}; and it may still be registered: {silence}") from None


def usual_workers(
    archive: Archive, overrides: Mapping[str, Overrides], properties: Mapping[str, str]
) -> tuple[int, int]:
    """At least and at most, as at a start: overrides, or the archive's, or those of `models=`, or the default."""
    usual = settings(archive, overrides, properties)
    low, high = (usual[key] for key in WORKERS)
    if _own_workers(archive) is None and archive.name not in overrides:
        told = json.loads(properties.get("models", "{}")).get(archive.name, {}).get(archive.version, {})
        low, high = told.get(WORKERS[0], low), told.get(WORKERS[1], high)
    return low, max(low, high)


def _own_workers(archive: Archive) -> tuple[int, int] | None:
    """What TorchServe takes from the archive's YAML, if that has both."""
    low, high = (archive.config.get(key) for key in WORKERS)
    return (low, high) if isinstance(low, int) and isinstance(high, int) and 0 < low <= high else None
