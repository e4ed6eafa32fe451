"""The other side of the workers' taps (marserve/boot/tap.py): copies of requests and replies, as they come.

They are clients' data: they stay in memory, up to a limit. What comes beyond it is dropped and counted.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from marserve.boot import tap
from marserve.errors import MarserveError
from marserve.shadow import priority

BACKLOG = 1000  # copies that wait
BACKLOG_BYTES = 1 << 26

_INT = struct.Struct("!i")


class Reply(NamedTuple):
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Copy:
    """One request as the handler saw it, and what the version that answers has replied."""

    request_id: str
    headers: Mapping[str, Any]  # text; by a field's name the mapping with its content type
    bodies: Mapping[str, bytes]  # by the field's name
    reply: Reply
    seconds: float  # that the worker took for the batch

    @property
    def size(self) -> int:
        return len(self.reply.body) + sum(map(len, self.bodies.values()))


class Batch(NamedTuple):
    """What a worker handed over at once."""

    seen: int  # requests of this connection until then, in all
    sampled: int  # and how many of them were to be copied
    copies: list[Copy]


def unpack(data: bytes) -> Batch:
    """The inverse of `tap.pack` with what a Tap gives it. Raises ValueError."""
    try:
        (length,) = tap.LENGTH.unpack_from(data)
        at = tap.LENGTH.size + length
        head = json.loads(data[tap.LENGTH.size : at])
        requests = []
        for request_id, headers, fields in head["requests"]:
            bodies = {}
            for name, size in fields:
                bodies[name] = data[at : at + size]
                at += size
            requests.append((request_id, headers, bodies))
        replies = read_replies(data, at)
        copies = [Copy(name, headers, bodies, replies[name], head["seconds"]) for name, headers, bodies in requests]
        return Batch(head["seen"], head["sampled"], copies)
    except (struct.error, LookupError, TypeError) as error:
        raise ValueError(f"no copy of a batch: {error}") from None


def read_replies(data: bytes, at: int = 0) -> dict[str, Reply]:
    """TorchServe's message with all replies of a batch, by request id. Raises struct.error where it is cut off."""

    def number() -> int:
        nonlocal at
        (value,) = _INT.unpack_from(data, at)
        at += _INT.size
        return int(value)

    def field(length: int | None = None) -> bytes:
        nonlocal at
        start = at if length is not None else at + _INT.size
        at = start + (number() if length is None else length)
        if not start <= at <= len(data):
            raise struct.error("a field is cut off")
        return data[start:at]

    replies = {}
    number()  # the batch's own status, which is in each of them too
    field()
    while (length := number()) != -1:
        request_id = field(length).decode()
        field()  # content type
        status = number()
        field()  # its phrase
        for _ in range(2 * number()):
            field()
        replies[request_id] = Reply(status, field())
    return replies


class Backlog:
    """Copies that nobody has taken yet. What is put into a full one is lost."""

    def __init__(self, most: int = BACKLOG, most_bytes: int = BACKLOG_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._waiting: deque[Copy] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, copy: Copy) -> bool:
        with self._changed:
            full = len(self._waiting) >= self._most or (self._waiting and self._bytes + copy.size > self._most_bytes)
            if self._closed or full:
                return False
            self._waiting.append(copy)
            self._bytes += copy.size
            self._changed.notify()
            return True

    def __iter__(self) -> Iterator[Copy]:
        """For any number of threads, each copy to one of them, until it is closed."""
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                copy = self._waiting.popleft()
                self._bytes -= copy.size
            yield copy

    def close(self) -> int:
        """How many are left, which are lost."""
        with self._changed:
            self._closed = True
            left = len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return left


class _Worker:
    """One connection, its counts."""

    def __init__(self) -> None:
        self.seen = self.sampled = 0


class Receiver:
    """Receives copies of a version's requests while it is entered, and puts them into `backlog`."""

    def __init__(self, folder: Path, model: str, version: str, sample: float, backlog: Backlog) -> None:
        self._file = folder / tap.file_name(model, version)
        self._path = folder / str(os.getpid())
        self._sample = sample
        self._backlog = backlog
        self._workers: list[_Worker] = []
        self._received = 0
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="copies", daemon=True)

    def __enter__(self) -> Self:
        """Raises MarserveError."""
        self._path.unlink(missing_ok=True)
        try:
            self._listener.bind(str(self._path))
        except OSError as error:
            raise MarserveError(f"cannot listen for copies in {self._path.parent}: {error.strerror}") from None
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps({"socket": self._path.name, "sample": self._sample}))
        part.replace(self._file)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        self._ending.set()
        self._thread.join()

    @property
    def seen(self) -> int:
        """Requests that were answered, copied or not: as of the last copy of each worker that was not lost."""
        return sum(worker.seen for worker in self._workers)

    @property
    def sampled(self) -> int:
        """Those that were to be copied."""
        return sum(worker.sampled for worker in self._workers)

    @property
    def received(self) -> int:
        """Those that are, or were, in the backlog."""
        return self._received

    def _run(self) -> None:
        priority.give_way()
        while not self._ending.is_set():
            for key, _ in self._selector.select(timeout=0.2):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._receive(key)
        for key in list(self._selector.get_map().values()):
            self._close(key)
        self._selector.close()

    def _accept(self) -> None:
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._workers.append(_Worker())
            self._selector.register(connection, selectors.EVENT_READ, self._workers[-1])

    def _receive(self, key: selectors.SelectorKey) -> None:
        connection = key.fileobj
        if not isinstance(connection, socket.socket):
            raise TypeError("only sockets are registered")
        try:
            message, descriptors, _, _ = socket.recv_fds(connection, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._close(key)
        for descriptor in descriptors:
            with os.fdopen(descriptor, "rb") as file, suppress(ValueError):
                file.seek(0)
                self._keep(unpack(file.read()), key.data)

    def _keep(self, batch: Batch, worker: _Worker) -> None:
        worker.seen, worker.sampled = batch.seen, batch.sampled
        self._received += sum(map(self._backlog.put, batch.copies))

    def _close(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        if isinstance(key.fileobj, socket.socket):
            key.fileobj.close()
