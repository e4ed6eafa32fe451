"""A server that `marserve serve` has started, found by its REST port: what it serves, and where it keeps that."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from marserve.edge.spec import MODEL_NAME
from marserve.errors import DataError, MarserveError
from marserve.failures import Failure
from marserve.management import Management, Version
from marserve.models.audit import Audit
from marserve.rundir import RunDir
from marserve.settings import addresses, read_properties
from marserve.state import Kept, StateFile, digest

KEPT_TIMEOUT = 5.0  # seconds until the server has seen a change and kept it for its next start; it looks every 0.3 s


class Running:
    """Closed at the end of a `with`. Everything raises MarserveError."""

    def __init__(self, port: int) -> None:
        self.rundir = RunDir(port)
        state = self.rundir.running()
        if state is None:
            raise MarserveError(f"no marserve of yours is running on port {port}: start it, or name its --port")
        if not state.ready:
            raise MarserveError(f"the server on port {port} is about to start: try again when it is ready")
        self._state = state
        self.properties = read_properties(self.rundir.config)
        self.listening = addresses(self.properties)
        self.management = Management(self.listening.management)
        self._kept = StateFile(port, self.store, Path(state.kept))
        self.audit = Audit(port, self._kept.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.management.close()

    @property
    def store(self) -> Path:
        return Path(self._state.model_store)

    @property
    def failed(self) -> tuple[Failure, ...]:
        """What it does not serve since it has failed, as it was when this was made."""
        return self._state.failed

    @property
    def overrides(self) -> Path | None:
        """The folder with them, where they count."""
        return Path(self._state.overrides) if self._state.overrides else None

    def check(self) -> None:
        """Raise MarserveError if it has ended meanwhile."""
        if self.rundir.running() is None:
            raise MarserveError(f"the server on port {self.rundir.port} has ended")

    def versions(self, name: str) -> list[Version]:
        """Of one model, at least one."""
        every = self.management.versions()
        if found := [one for one in every if one.model == checked(name)]:
            return found
        known = ", ".join(sorted({one.model for one in every}))
        raise MarserveError(f"no model {name} is served; there is {known or 'none'}")

    def version(self, name: str, version: str) -> Version:
        found = self.versions(name)
        for one in found:
            if one.version == checked(version):
                return one
        known = ", ".join(one.version for one in found)
        raise MarserveError(
            f"{name} has no version {version} here; it has {known}: `marserve models register` adds one"
        )

    def default(self, name: str) -> Version:
        return next(one for one in self.versions(name) if one.default)

    def archive(self, one: Version) -> Path:
        """The file that it was registered from; what is there now may be another one."""
        return self.store / Path(one.archive).name

    def digest(self, one: Version) -> str:
        """SHA-256 of its archive as it was when it was registered; of the file as it is now, where that is not kept."""
        state = self._kept.read()
        kept = state.archives.get(Path(one.archive).name) if state else None
        return kept or digest(self.archive(one))

    def keeps(self, wanted: Callable[[list[Kept]], bool]) -> bool:
        """Whether what is wanted of the versions has come to be kept for the next start."""
        deadline = time.monotonic() + KEPT_TIMEOUT
        while time.monotonic() < deadline:
            state = self._kept.read()
            if state and wanted(list(state.versions)):
                return True
            time.sleep(0.05)
        return False


def audit(port: int) -> Audit:
    """The log of that port's server, whether it is running or not."""
    state = RunDir(port).running()
    return Audit(port, Path(state.kept).parent if state and state.kept else None)


def checked(name: str) -> str:
    """A model's name or a version, as archives have them."""
    if not re.fullmatch(MODEL_NAME, name):
        raise DataError(f"{name!r} is no name of a model or a version: letters, digits, '.', '_' and '-' make one")
    return name
