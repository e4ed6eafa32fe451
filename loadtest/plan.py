"""What one run does: which server, which models, what is sent and when. Written by the command, read inside Locust."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest.checkers import CHECKERS
from loadtest.errors import LoadTestError
from loadtest.shapes import Stage
from marserve.archive import Archive, read_archive
from marserve.errors import MarserveError

TIMEOUT = 30.0  # seconds that a user waits for a reply
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Target:
    """One model: the bodies to send, and the checker for its replies."""

    model: str
    kind: str
    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """`grpc` is an address, or empty for REST at `host`."""

    host: str
    grpc: str
    stages: tuple[Stage, ...]
    targets: tuple[Target, ...]

    @property
    def server(self) -> str:
        return f"gRPC at {self.grpc}" if self.grpc else f"REST at {self.host}"

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), default=lambda data: base64.b64encode(data).decode()))


def read_plan(path: Path) -> Plan:
    data = json.loads(path.read_text())
    targets = tuple(
        Target(entry["model"], entry["kind"], tuple(map(base64.b64decode, entry["bodies"])))
        for entry in data["targets"]
    )
    return Plan(data["host"], data["grpc"], tuple(Stage(**stage) for stage in data["stages"]), targets)


def build_targets(
    models: Sequence[str], archives: Sequence[Path], model_store: Path, files: Sequence[Path], check: str | None
) -> tuple[Target, ...]:
    """What each model is sent: `files`, or the example in its archive. Raises LoadTestError, MarserveError."""
    for name in models:
        if not _NAME.fullmatch(name):
            raise LoadTestError(f"{name!r} is not a model's name")
    if len(set(models)) < len(models):
        raise LoadTestError("a model is named twice")
    if files and len(models) > 1:
        raise LoadTestError("--files goes with one model; several are sent the examples of their archives")
    named = {archive.name: archive for archive in map(read_archive, archives)}
    if unwanted := sorted(set(named) - set(models)):
        raise LoadTestError(f"an archive of {', '.join(unwanted)} is given, but the model is not named")
    return tuple(_target(name, named.get(name), model_store, files, check) for name in models)


def _target(name: str, archive: Archive | None, model_store: Path, files: Sequence[Path], check: str | None) -> Target:
    path = model_store / f"{name}.mar"
    if archive is None and (path.exists() or not files):
        archive = read_archive(path)
        if archive.name != name:
            raise LoadTestError(f"{path} holds {archive.name}, not {name}")
    task = str(archive.handler.get("task")) if archive else "any"
    kind = check or (task if task in CHECKERS else "any")
    bodies = map(_read, files) if files or archive is None else [_example(archive)]
    return Target(name, kind, tuple(bodies))


def _example(archive: Archive) -> bytes:
    try:
        return archive.example_request()[0]
    except MarserveError as error:
        raise LoadTestError(f"{error}: say what to send with --files") from None


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LoadTestError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise LoadTestError(f"{path} is empty")
    return data
