"""Whether a version's workers are READY and each of them has answered the archive's example; where not, why.

Asked by `marserve serve` of what it starts, and by `marserve models` of what it adds to a server that is running.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import httpx

from marserve.archive import Archive
from marserve.background import Flag
from marserve.errors import MarserveError
from marserve.management import READY
from marserve.settings import Addresses

TIMEOUT = 120.0  # seconds
DOES_NOT_LOAD, LATE, WRONG = "does not load", "is not ready in time", "does not answer its own example"
WARM_UP_HEADER = "marserve-warm-up"
WORKER_HEADER = "marserve-worker"
SERVER_LOG, MODELS_LOG = "server.log", "models.log"


class NotReadyError(MarserveError):
    """A model that does not get ready: its name, and for what reason, which is of that kind."""

    def __init__(self, name: str, kind: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.kind = kind
        self.reason = reason


class Readiness:
    """Of one server. What its logs hold when this is made is of earlier times and does not count."""

    def __init__(self, listening: Addresses, logs: Path, check: Callable[[], None]) -> None:
        """`check` is called while there is nothing but to wait, and raises MarserveError where that is in vain."""
        self._rest = httpx.Client(base_url=listening.rest.url, timeout=10, trust_env=False)
        self._management = httpx.Client(base_url=listening.management.url, timeout=10, trust_env=False)
        self._logs = logs
        self._check = check
        self._begin = {name: _size(logs / name) for name in (SERVER_LOG, MODELS_LOG)}

    def close(self) -> None:
        self._rest.close()
        self._management.close()

    def wait_for_server(self, stopping: Flag = False) -> None:
        """Until the management API answers, which is once every model is registered. Raises MarserveError."""
        deadline = time.monotonic() + TIMEOUT
        while not stopping:
            self._check()
            try:
                self._management.get("/models", params={"limit": 1})
                return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise MarserveError(f"TorchServe does not answer after {TIMEOUT:.0f} s{self.see_logs()}")
            time.sleep(0.05)

    def wait_for_workers(self, name: str, version: str, deadline: float, stopping: Flag = False) -> set[str]:
        """The process ids of the version's workers, once all are READY; none when `stopping`. Raises NotReadyError."""
        began = time.monotonic()
        failure = re.compile(rf" {_worker(name, version)} BatchAggregator - Load model failed: ")
        while not stopping:
            self._check()
            if failure.search(self.log(SERVER_LOG)):
                reason = f"{DOES_NOT_LOAD}: {self.reason(name, version)}{self.see_logs()}"
                raise NotReadyError(name, DOES_NOT_LOAD, reason)
            try:
                reply = self._management.get(f"/models/{name}/{version}")
                model = reply.json()[0] if reply.status_code == HTTPStatus.OK else {}
            except (httpx.TransportError, ValueError):
                model = {}
            else:
                if reply.status_code == HTTPStatus.NOT_FOUND:
                    raise NotReadyError(name, DOES_NOT_LOAD, f"is not known to TorchServe{self.see_logs()}")
            workers = model.get("workers", [])
            enough = model and len(workers) >= model["minWorkers"]  # none at all where it was scaled to none
            if enough and all(worker["status"] == READY for worker in workers):
                return {str(worker["pid"]) for worker in workers}
            if time.monotonic() > deadline:
                late = f"is not ready after {time.monotonic() - began:.0f} s{self.see_logs()}"
                raise NotReadyError(name, LATE, late)
            time.sleep(0.05)
        return set()

    def warm_up(self, archive: Archive, workers: set[str], deadline: float, stopping: Flag = False) -> None:
        """Send the archive's example, if it has one, until each of the version's workers has answered it.

        Raises NotReadyError with the answer that is none.
        """
        if not archive.example:
            return
        try:
            content, headers = archive.example_request()
        except MarserveError as error:
            raise NotReadyError(archive.name, WRONG, f"cannot be asked anything: {error}") from None
        answered: set[str] = set()
        while answered != workers and not stopping:
            try:
                reply = self._rest.post(
                    f"/predictions/{archive.name}/{archive.version}",
                    content=content,
                    headers={**headers, WARM_UP_HEADER: "1"},
                )
            except httpx.TransportError as error:
                reason = f"did not answer its example: {error}{self.see_logs()}"
                raise NotReadyError(archive.name, WRONG, reason) from None
            if reply.status_code != HTTPStatus.OK:
                reason = f"answers its own example with {reply.status_code}: {reply.text[:300]}"
                raise NotReadyError(archive.name, WRONG, reason)
            answered |= {reply.headers.get(WORKER_HEADER, "")} & workers
            if time.monotonic() > deadline:
                reason = f"has {len(workers)} workers, but only {len(answered)} answer"
                raise NotReadyError(archive.name, WRONG, reason)

    def reason(self, name: str, version: str) -> str:
        """The last line of the traceback that the version's worker left in its log."""
        line = re.compile(rf" {_worker(name, version)}-std(?:out|err) - (\S.*)")
        lines = line.findall(self._settled(MODELS_LOG))
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
        # After a failed import the loader looks for a handler of its own by that name: that error only hides the first.
        errors = [line for line in errors if "'ts.torch_handler." not in line] or errors
        if not errors:
            return "its worker died while loading it"
        return re.sub(r"^handlers\.errors\.SpecError: ", "", errors[-1])

    def log(self, name: str) -> str:
        try:
            content = (self._logs / name).read_bytes()
        except FileNotFoundError:
            return ""
        begin = self._begin[name]
        return content[begin if begin <= len(content) else 0 :].decode(errors="replace")  # or it is another file now

    def see_logs(self) -> str:
        return f" (logs: {self._logs})"

    def _settled(self, name: str) -> str:
        """A log once nothing more is being added: the last line of half a traceback names the wrong error."""
        text = self.log(name)
        for _ in range(10):
            time.sleep(0.3)
            before, text = text, self.log(name)
            if text == before:
                break
        return text


def _worker(name: str, version: str) -> str:
    """What TorchServe calls its threads for the version's workers, as a regular expression."""
    return rf"W-\d+-{re.escape(name)}_{re.escape(version)}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
