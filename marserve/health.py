"""/health: whether this server should get requests. One thread watches TorchServe's workers; asking costs nothing.

TorchServe's own /ping calls a worker healthy for five minutes after it has died, and says nothing of an end to come.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from marserve.failures import Failure
from marserve.management import Management, NoAnswerError, Version
from marserve.pages import Page
from marserve.settings import Address

INTERVAL = 0.3  # seconds between two looks
STALE = 3.0  # seconds after which a look says nothing any more
ASKED = 10.0  # seconds for which one who has asked is thought to be still there
CLOSED = {"starting": "models are being loaded", "draining": "the server is about to end"}


class Health:
    """Nothing is ready before `serving`, and nothing from `drain` on. Watches from `start` to `stop`."""

    def __init__(
        self,
        management: Address,
        seen: Callable[[tuple[Version, ...]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seen` gets every look's result while the server is neither starting nor about to end."""
        self._management = Management(management)
        self._tell = seen
        self._clock = clock
        self._versions: tuple[Version, ...] = ()
        self._failed: dict[str, Failure] = {}  # by what has failed, until it is served all the same
        self._seen = -STALE
        self._phase = "starting"
        self._asked = -ASKED
        self._looking = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def starting(self) -> None:
        """TorchServe is gone, and comes again. What a look has found before is told when this returns."""
        with self._looking:
            self._phase = "starting"
            self._versions = ()

    def serving(self, failed: Iterable[Failure] = ()) -> None:
        """All models have answered or failed: from here on it depends on the workers of those that have answered."""
        self._failed |= {failure.what: failure for failure in failed}
        self._phase = "serving"

    @property
    def failed(self) -> tuple[Failure, ...]:
        """What is not served since it has failed."""
        return tuple(self._failed.values())

    def drain(self) -> None:
        """This server is about to end."""
        self._phase = "draining"

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._management.close()

    def look(self) -> None:
        """Ask TorchServe now."""
        with self._looking, suppress(NoAnswerError):  # it is starting, ending or hanging: what was seen gets old
            versions = self._management.versions()
            if self._phase not in CLOSED:
                self._tell(versions)
                files = {Path(version.archive).name for version in versions}
                self._failed = {what: one for what, one in self._failed.items() if one.archive not in files}
            self._versions = versions  # what the page shows has been told before: it outlives TorchServe
            self._seen = self._clock()

    @property
    def asked(self) -> bool:
        """Whether anybody looks at the page."""
        return self._clock() - self._asked < ASKED

    def page(self) -> Page:
        """200 and `ready`, or `degraded` with what has failed; or 503 with what is not ready."""
        self._asked = self._clock()
        status, reason = self._judge()
        content: dict[str, Any] = {"status": status, "reason": reason} if reason else {"status": status}
        models = {
            version.model: {"version": version.version, "workers": len(version.workers), "ready": version.ready}
            for version in self._versions
            if version.default
        }
        failed = [
            {"archive": one.archive, "model": one.model, "version": one.version, "reason": one.kind}
            for one in self._failed.values()
        ]
        content |= {"models": models, **({"failed": failed} if failed else {})}
        code = HTTPStatus.OK if status in ("ready", "degraded") else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(code, "application/json", json.dumps(content).encode() + b"\n")

    def _judge(self) -> tuple[str, str]:
        """One word for programs, and for people why it is not `ready`."""
        if self._phase in CLOSED:
            return self._phase, CLOSED[self._phase]
        if (age := self._clock() - self._seen) >= STALE:
            return "unknown", f"TorchServe has not said for {age:.0f} s how its workers are"
        idle = [version.model for version in self._versions if version.default and not version.ready]
        if idle or not self._versions:
            return "unavailable", f"no worker is ready for {', '.join(idle) or 'any model'}"
        if self._failed:
            return "degraded", f"without what has failed: {', '.join(self._failed)}"
        return "ready", ""

    def _watch(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self.look()
            # With GPUs TorchServe runs nvidia-smi for each worker it is asked about: half of the time is for others.
            self._stop.wait(max(INTERVAL, time.monotonic() - began))
