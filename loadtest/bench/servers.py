"""How each server is started, and in what form it takes a request and gives its answer.

A peer's module is in loadtest/peers; docs/benchmarks/README.md says why each is configured as it is.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from loadtest.bench.environments import lock_version, make_environment
from loadtest.bench.store import ROOT, Store
from loadtest.bench.workloads import Ask
from marserve.wrk import Request

LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a server is given to start: an environment's Python, a port, models, a folder to write to."""

    python: Path
    port: int
    workers: int
    store: Store
    scratch: Path

    @property
    def environment(self) -> dict[str, str]:
        """For the peers' modules; the handlers come from this checkout."""
        return {
            "PYTHONPATH": str(ROOT),
            "PEER_MODELS": str(self.store.models),
            "PEER_NAMES": ",".join(self.store.names),
            "PEER_PORT": str(self.port),
            "PEER_WORKERS": str(self.workers),
            "TMPDIR": str(self.scratch),
            "OMP_NUM_THREADS": "1",
        }


Launch = tuple[list[str], dict[str, str]]  # a command, and what is added to its environment


def _plain_request(ask: Ask) -> Request:
    kind = "application/json" if ask.is_json else "image/jpeg"
    return Request(f"/predictions/{ask.model}", ask.body, {"Content-Type": kind})


def _plain_answer(headers: Mapping[str, str], body: bytes) -> Any:  # noqa: ARG001
    return json.loads(body)


@dataclass(frozen=True, slots=True)
class Server:
    """`package` is what its version is read of; without a lock it runs in this environment."""

    name: str
    package: str
    launch: Callable[[Setup], Launch]
    request: Callable[[Ask], Request] = _plain_request
    answer: Callable[[Mapping[str, str], bytes], Any] = field(default=_plain_answer)
    locked: bool = True

    def python(self) -> Path:
        """Of its environment, which is made where it is missing. Raises LoadTestError."""
        return make_environment(self.name) if self.locked else Path(sys.executable)

    def version(self) -> str:
        return lock_version(self.name, self.package) if self.locked else installed_version(self.package)


def _module(name: str) -> Callable[[Setup], Launch]:
    return lambda setup: ([str(setup.python), "-m", f"loadtest.peers.{name}"], {})


def _marserve(setup: Setup) -> Launch:
    command = [str(setup.python), "-m", "marserve", "serve", "--port", str(setup.port)]
    return [*command, "--model-store", str(setup.store.archives), "--config", str(ROOT / "config.properties")], {}


SERVERS = {
    server.name: server
    for server in (
        Server("marserve", "marserve", _marserve, locked=False),
        Server("fastapi", "fastapi", _module("fastapi")),
    )
}
