"""The models of a TorchServe that starts, side by side: each gets ready, or fails by itself and is taken off.

TorchServe would go on starting workers of one that does not load, and requests for it would wait for them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from marserve.archive import Archive
from marserve.background import Flag
from marserve.errors import MarserveError
from marserve.failures import Failure
from marserve.management import Management, RefusedError
from marserve.readiness import TIMEOUT, NotReadyError, Readiness
from marserve.state import Plan


class Loading:
    """Of one TorchServe, once."""

    def __init__(
        self,
        plan: Plan,
        readiness: Readiness,
        management: Management,
        patience: Callable[[Archive], float],
        stopping: Flag,
        strict: bool,
    ) -> None:
        """`patience` is how many seconds the workers of a model may take to load it. With `strict` none may fail."""
        self._plan = plan
        self._readiness = readiness
        self._management = management
        self._patience = patience
        self._stopping = stopping
        self._strict = strict
        self._failures: list[Failure] = []
        self._errors: list[MarserveError] = []
        self._turn = threading.Lock()

    def __bool__(self) -> bool:
        """Whether there is nothing left to wait for: a Flag."""
        return bool(self._stopping or self._errors)

    def run(self) -> list[Failure]:
        """Those that have failed. Raises MarserveError where TorchServe ends, and with `strict` for the first."""
        self._readiness.wait_for_server(self)
        with ThreadPoolExecutor(len(self._plan.archives), "loading") as pool:
            list(pool.map(self._load, self._plan.archives))
        if self._errors:
            raise self._errors[0]
        return self._failures

    def _load(self, archive: Archive) -> None:
        deadline = time.monotonic() + self._patience(archive)
        try:
            workers = self._readiness.wait_for_workers(archive.name, archive.version, deadline, self)
            self._readiness.warm_up(archive, workers, time.monotonic() + TIMEOUT, self)
        except NotReadyError as error:
            if self._strict:
                self._errors.append(error)
            else:
                self._give_up(archive, error)
        except MarserveError as error:
            self._errors.append(error)

    def _give_up(self, archive: Archive, error: NotReadyError) -> None:
        reason = error.reason
        with self._turn:
            try:
                self._take_off(archive)
            except RefusedError as refusal:
                reason += f"; and it is still registered: {refusal}"
            except MarserveError as silence:
                self._errors.append(silence)
            self._failures.append(Failure(archive.path.name, archive.name, archive.version, reason, error.kind))

    def _take_off(self, archive: Archive) -> None:
        """With another version as the default, where there is one that has not failed. Raises MarserveError."""
        name, version = archive.name, archive.version
        failed = {version, *(failure.version for failure in self._failures if failure.model == name)}
        defaults = {one.model: one.version for one in self._management.versions() if one.default}
        if defaults.get(name) == version and (other := self._plan.default_without(name, failed)):
            self._management.set_default(name, other)
        try:
            self._management.unregister(name, version)
        except RefusedError as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:  # which is what TorchServe did not take at all
                raise
