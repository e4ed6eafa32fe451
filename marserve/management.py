"""TorchServe's management API: which versions of which models there are, and how their workers are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple
from urllib.parse import quote

from marserve.settings import Address

TIMEOUT = 2.0  # seconds
READY = "READY"
_MOST = 1000  # models on one page


class NoAnswerError(Exception):
    """TorchServe did not answer, or not with what it should."""


class Worker(NamedTuple):
    pid: int  # -1 until it has said so
    state: str


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


SETTINGS = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout")


class Management:
    """Asked several times a second, hence without a library that would take ten times the processor for it."""

    def __init__(self, address: Address) -> None:
        self._connection = HTTPConnection(address.host, address.port, timeout=TIMEOUT)

    def versions(self) -> tuple[Version, ...]:
        """All there are. Raises NoAnswerError."""
        try:
            models = self._get(f"/models?limit={_MOST}")["models"]
            return tuple(
                _version(found, default=model["modelUrl"])
                for model in models
                for found in self._get(f"/models/{quote(model['modelName'])}/all")
            )
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            self._connection.close()  # what is left of an answer would be taken for the next one
            raise NoAnswerError(f"TorchServe's management API does not answer ({type(error).__name__})") from None

    def close(self) -> None:
        self._connection.close()

    def _get(self, path: str) -> Any:
        self._connection.request("GET", path)
        return json.load(self._connection.getresponse())


def _version(found: Mapping[str, Any], default: str) -> Version:
    return Version(
        found["modelName"],
        found["modelVersion"],
        found["modelUrl"],
        found["modelUrl"] == default,
        {key: found[key] for key in SETTINGS},
        tuple(Worker(worker["pid"], worker["status"]) for worker in found["workers"]),
        found["jobQueueStatus"]["pendingRequests"],
    )
