"""TorchServe's management API: which versions of which models there are, how their workers are, and changes to them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from marserve.errors import MarserveError
from marserve.settings import Address

TIMEOUT = 2.0  # seconds
CHANGE_TIMEOUT = 150.0  # seconds; TorchServe itself waits for up to 120 for a worker's process to end
READY = "READY"
_MOST = 1000  # models on one page


class NoAnswerError(MarserveError):
    """TorchServe did not answer, or not with what it should. A change may have been made all the same."""


class RefusedError(MarserveError):
    """TorchServe did not do what it was asked to, for the reason that is the message; `status` is that of its reply."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Worker(NamedTuple):
    pid: int  # -1 until it has said so
    state: str
    started: str = ""  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model, with TorchServe's own words for its settings."""

    model: str
    version: str
    archive: str  # the file's name in the model store
    default: bool  # whether requests that name no version get this one
    settings: Mapping[str, int]  # of SETTINGS
    workers: tuple[Worker, ...]
    pending: int  # requests in its queue

    @property
    def ready(self) -> int:
        """How many workers can answer."""
        return sum(worker.state == READY for worker in self.workers)

    @property
    def since(self) -> str:
        """When its eldest worker was started, as that says it; TorchServe counts one that has died as the same."""
        return min((worker.started for worker in self.workers), default="")


SETTINGS = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout")


class Management:
    """Asked several times a second, hence without a library that would take ten times the processor for it."""

    def __init__(self, address: Address) -> None:
        self._connection = HTTPConnection(address.host, address.port, timeout=TIMEOUT)

    def versions(self) -> tuple[Version, ...]:
        """All there are. Raises NoAnswerError."""
        try:
            return tuple(self._versions())
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            self._connection.close()  # what is left of an answer would be taken for the next one
            raise _no_answer(error) from None

    def register(self, archive: str, **parameters: int | str) -> None:
        """Register a file of the model store, by its name. `parameters` are those of TorchServe's `POST /models`.

        Raises RefusedError, NoAnswerError; so do the others.
        """
        self._change("POST", "/models", url=archive, **parameters)

    def scale(self, model: str, version: str, minimum: int, maximum: int) -> None:
        """Returns at once where workers are to be added; those that are too many are gone when it returns."""
        self._change("PUT", _path(model, version), min_worker=minimum, max_worker=maximum)

    def set_default(self, model: str, version: str) -> None:
        """Requests that name no version get this one from now on; those that are queued stay where they are."""
        self._change("PUT", f"{_path(model, version)}/set-default")

    def unregister(self, model: str, version: str) -> None:
        """Its workers are killed, and what is in its queue gets no answer."""
        self._change("DELETE", _path(model, version))

    def close(self) -> None:
        self._connection.close()

    def _versions(self) -> Iterator[Version]:
        for model in self._get(f"/models?limit={_MOST}")["models"]:
            name, default = model["modelName"], model["modelUrl"]
            found = self._get(f"/models/{quote(name)}/all")
            if Counter(one["modelUrl"] for one in found)[default] < 2:
                yield from (_version(one, one["modelUrl"] == default) for one in found)
            else:  # a file that was replaced, and registered again: it does not tell which of them is meant
                version = self._get(f"/models/{quote(name)}")[0]["modelVersion"]
                yield from (_version(one, one["modelVersion"] == version) for one in found)

    def _get(self, path: str) -> Any:
        self._connection.request("GET", path)
        return json.load(self._connection.getresponse())

    def _change(self, method: str, path: str, **parameters: int | str) -> None:
        """On a connection of its own: the other one has a short time limit, and may have been closed meanwhile."""
        connection = HTTPConnection(self._connection.host, self._connection.port, timeout=CHANGE_TIMEOUT)
        try:
            connection.request(method, f"{path}?{urlencode(parameters)}" if parameters else path)
            reply = connection.getresponse()
            content = json.load(reply)
            if reply.status >= 300:
                raise RefusedError(reply.status, str(content["message"]))
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise _no_answer(error) from None
        finally:
            connection.close()


def _path(model: str, version: str) -> str:
    return f"/models/{quote(model, safe='')}/{quote(version, safe='')}"


def _no_answer(error: Exception) -> NoAnswerError:
    return NoAnswerError(f"TorchServe's management API does not answer ({type(error).__name__})")


def _version(found: Mapping[str, Any], default: bool) -> Version:
    return Version(
        found["modelName"],
        found["modelVersion"],
        found["modelUrl"],
        default,
        {key: found[key] for key in SETTINGS},
        tuple(Worker(worker["pid"], worker["status"], worker.get("startTime", "")) for worker in found["workers"]),
        found["jobQueueStatus"]["pendingRequests"],
    )
