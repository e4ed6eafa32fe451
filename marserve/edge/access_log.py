"""HAProxy's lines about requests, from its pipe into a file that does not grow without end."""

from __future__ import annotations

import fcntl
import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from marserve.errors import MarserveError

ROTATE = 64 * 2**20  # bytes; two such files are there at most
ROTATE_COPY = 4 * 2**20  # where the lines are on standard output
_CHUNK = 65536
_PIPE = 2**20  # bytes that wait to be read; HAProxy drops what does not fit, and Linux allows no more to a user
_OTHER = re.compile(rb"^[^{\n].*\n", re.MULTILINE)  # that it starts and stops, which its own log has too


class AccessLog:
    """What is written to `pipe` goes to `path`. A context manager; it ends with the writers."""

    def __init__(self, path: Path, rotate: int = ROTATE, also_stdout: bool = False) -> None:
        """The file is made for its owner alone; what it has already stays. At `rotate` bytes it is renamed.

        Raises MarserveError where it cannot be written.
        """
        self._path = path
        self._rotate = rotate
        self._also_stdout = also_stdout
        self._file = self._open()
        self._reader, self.pipe = os.pipe()
        with suppress(OSError):  # this user has too many of them
            fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)

    def start(self) -> None:
        """Close our end of `pipe`, which the writers have by now, and read the other."""
        os.close(self.pipe)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Wait until everything that was written is where it belongs."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with os.fdopen(self._reader, "rb", buffering=0) as reader:
            rest = b""
            while chunk := reader.read(_CHUNK):
                lines, newline, rest = (rest + chunk).rpartition(b"\n")
                self._write(_OTHER.sub(b"", lines + newline))
        self._file.close()

    def _write(self, lines: bytes) -> None:
        if self._file.tell() >= self._rotate:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._file = self._open()
        self._file.write(lines)
        self._file.flush()
        if self._also_stdout:
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()

    def _open(self) -> BinaryIO:
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MarserveError(f"cannot write the access log {self._path}: {error.strerror}") from None
        return os.fdopen(file, "ab")
