"""What workers and marserve tell each other in shared memory, at the cost of a memory write.

The folder that `FOLDER` names has a file for each worker: how many requests it has answered, and how many it has just
now; the file REFUSE, whose first byte marserve sets when all that comes from then on is to be refused; and the file
TURN, which a worker locks while it is replaced, so that two are never away at once.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

FOLDER = "MARSERVE_SLOTS"  # in a worker's environment; no worker of a bare TorchServe has it
REFUSE = "refuse"
TURN = "turn"

_NUMBER = struct.Struct("=Q")
_ANSWERED, _WORKING, _SIZE = 0, 8, 16  # aligned, so that a number is never half written


class Work(NamedTuple):
    answered: int  # requests since the process began
    working: int  # requests of the batch that it has now


class Slot:
    """A worker's own side."""

    def __init__(self, folder: Path) -> None:
        """Goes on with the file of a process that became this one. Raises OSError."""
        self._map = _map(folder / str(os.getpid()), _SIZE)
        self._refuse = _map(folder / REFUSE, 1)
        self._turn = folder / TURN

    def turn(self) -> int:
        """Take the turn to be replaced: a descriptor that holds it until closed. Raises BlockingIOError."""
        descriptor = os.open(self._turn, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    @property
    def refusing(self) -> bool:
        return self._refuse[0] != 0

    def take(self, requests: int) -> None:
        """A batch has come."""
        _NUMBER.pack_into(self._map, _WORKING, requests)

    def done(self) -> None:
        """It has been answered, if there was one."""
        work = _read(self._map)
        if work.working:
            _NUMBER.pack_into(self._map, _ANSWERED, work.answered + work.working)
            _NUMBER.pack_into(self._map, _WORKING, 0)


class Slots:
    """marserve's side."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refuse = _map(folder / REFUSE, 1)

    def work(self) -> Mapping[int, Work]:
        """By process id, of the workers that are alive."""
        found = {}
        for path in self._folder.iterdir():
            if path.name.isdecimal() and Path("/proc", path.name).exists():
                data = path.read_bytes()
                if len(data) == _SIZE:  # or it is only just being made
                    found[int(path.name)] = _read(data)
        return found

    def refuse(self) -> None:
        """What workers get from now on is answered with 503."""
        self._refuse[0] = 1


def _read(data: bytes | mmap.mmap) -> Work:
    return Work(_NUMBER.unpack_from(data, _ANSWERED)[0], _NUMBER.unpack_from(data, _WORKING)[0])


def _map(path: Path, size: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
