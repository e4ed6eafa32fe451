"""What the edge's access log says of a model's versions, from now on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from marserve.errors import MarserveError
from marserve.rollout.judge import Answer

# gRPC's statuses: what the server did not do, and what the client did wrong.
_GRPC_FAILED = frozenset({2, 4, 5, 8, 12, 13, 14, 15})
_MISSING = (404, 429)  # that there is no such version, or that its queue is full, is no fault of the client's


class Tail:
    """The lines that are added to a file, also once it has been renamed and begun anew. A context manager."""

    def __init__(self, path: Path) -> None:
        """Raises MarserveError where it cannot be read."""
        self._path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise MarserveError(f"cannot read the edge's access log {path}: {error.strerror}") from None
        self._file.seek(0, os.SEEK_END)
        self._rest = b""

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def lines(self) -> Iterator[bytes]:
        """Those that have become whole since the last call."""
        yield from self._read()
        if self._renewed():
            yield from self._read()  # what came between the last read and the renaming
            self._file.close()
            self._file = self._path.open("rb")
            yield from self._read()

    def _read(self) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        yield from lines

    def _renewed(self) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:  # renamed, and not yet there again
            return False


def read(line: bytes, model: str) -> tuple[str, Answer] | None:
    """Who answered a request that was split: a candidate, by its version, or `-`, the default; None for other lines."""
    try:
        entry = json.loads(line)
        if entry["model"] != model or entry["split"] not in ("candidate", "default"):
            return None
        return entry["version"] if entry["split"] == "candidate" else "-", _answer(entry)
    except (ValueError, LookupError, TypeError):
        return None


def _answer(entry: dict[str, Any]) -> Answer:
    status, grpc, waited = entry["status"], entry["grpc_status"], entry["response_ms"]
    milliseconds = waited if waited >= 0 else entry["total_ms"]  # it never came, or not yet when the client left
    if entry["protocol"] == "grpc" and status == 200 and grpc not in ("-", "0"):
        failed = int(grpc) in _GRPC_FAILED
        return Answer(milliseconds, f"grpc {grpc}", failed, not failed)
    failed = status >= 500 or status in _MISSING
    return Answer(milliseconds, str(status), failed, 400 <= status < 500 and not failed)
