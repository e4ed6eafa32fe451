"""Copies of requests and of their replies, which a worker hands to a shadow (marserve/shadow) after it has replied.

The folder that `FOLDER` names has a file for each version that is being copied, with the name of a socket beside it and
the share of requests that is wanted. A worker looks for its own twice a second at most, and only when a batch has come.
A batch is handed over in a memory file, whatever its size, and never waited for: where the other side is slow or gone,
the copy is lost and the next one says so. No error here reaches a request.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import time
from binascii import crc32
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

FOLDER = "MARSERVE_TAPS"  # in a worker's environment; no worker of a bare TorchServe has it
WARM_UP_HEADER = "marserve-warm-up"
LOOK_EVERY = 0.5  # seconds
IN_FLIGHT = 1 << 14  # bytes of the socket's queue: some 40 batches
LARGEST = 1 << 26  # bytes of a batch's copy: what waits in the queue is memory too
LENGTH = struct.Struct("!I")  # of the JSON that a copy begins with


def file_name(model: str, version: str) -> str:
    return f"{quote(model, safe='')}@{quote(version, safe='')}"


def pack(head: Mapping[str, Any], blobs: Sequence[bytes]) -> list[bytes]:
    """The parts of one copy: what is in JSON, and behind it the bytes whose lengths it has."""
    data = json.dumps(head).encode()
    return [LENGTH.pack(len(data)), data, *blobs]


class Tap:
    """A worker's own side: `taken` when a batch has come, `replied` with its reply, `answered` when that is sent."""

    def __init__(self, folder: str | None) -> None:
        """Without a folder nothing is ever copied."""
        self._folder = folder
        self._name = ""
        self._socket: socket.socket | None = None
        self._next = 0.0
        self._wanted = 0  # of 2^32 request ids
        self._batch: Any = None
        self._reply: bytes = b""
        self._began = 0.0
        self._seen = self._sampled = 0  # requests since the connection was made

    def load(self, message: Mapping[str, Any]) -> None:
        """The model that this worker is for, from the front end's message. Its version is in the archive."""
        if self._folder is None:
            return
        try:
            manifest = Path(os.fsdecode(message["modelPath"]), "MAR-INF", "MANIFEST.json").read_bytes()
            self._name = file_name(message["modelName"].decode(), json.loads(manifest)["model"]["modelVersion"])
        except (OSError, ValueError, LookupError, TypeError):
            self._name = ""  # no archive: nothing that could be shadowed

    def taken(self, batch: Any) -> None:
        if self._socket is None and self._name and time.monotonic() >= self._next:
            self._next = time.monotonic() + LOOK_EVERY
            self._safely(self._connect)
        if self._socket is not None:
            self._batch, self._began = batch, time.perf_counter()

    def replied(self, reply: Any) -> None:
        if self._batch is not None:
            self._reply = reply

    def answered(self) -> None:
        """Hand over the batch that has just been answered, if it is wanted."""
        if self._batch is not None:
            seconds = time.perf_counter() - self._began
            batch, reply, self._batch, self._reply = self._batch, self._reply, None, b""
            self._safely(lambda: self._deliver(batch, reply, seconds))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _safely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception:
            logging.getLogger(__name__).warning("no more requests are copied", exc_info=True)
            self.close()
            self._name = ""

    def _connect(self) -> None:
        try:
            tap = json.loads(Path(self._folder or "", self._name).read_bytes())
            wanted, path = int(float(tap["sample"]) * 2**32), str(Path(self._folder or "", tap["socket"]))
        except FileNotFoundError:  # nearly always
            return
        found = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, IN_FLIGHT)
            found.connect(path)
        except OSError:  # left by a shadow that is gone
            found.close()
            return
        self._socket, self._wanted = found, wanted
        self._seen = self._sampled = 0

    def _deliver(self, batch: Any, reply: bytes, seconds: float) -> None:
        try:
            self._hand_over(batch, reply, seconds)
        except ConnectionError:  # that shadow has ended; another one may have begun meanwhile
            self.close()
            self._connect()
            with suppress(ConnectionError):
                self._hand_over(batch, reply, seconds)

    def _hand_over(self, batch: Any, reply: bytes, seconds: float) -> None:
        """Raises ConnectionError where nobody listens any more."""
        if self._socket is None:
            return
        requests, blobs, size = [], [], len(reply)
        for index, request_id in batch.ids.items():
            headers, bodies = batch.headers[index], batch.bodies[index]
            if WARM_UP_HEADER in headers:
                continue
            self._seen += 1
            if crc32(request_id.encode()) >= self._wanted:
                continue
            self._sampled += 1
            size += sum(map(len, bodies.values()))
            if size <= LARGEST:
                requests.append([request_id, headers, [[name, len(body)] for name, body in bodies.items()]])
                blobs += bodies.values()
        if not requests:
            return
        head = {"seen": self._seen, "sampled": self._sampled, "seconds": seconds, "requests": requests}
        try:
            descriptor = os.memfd_create("marserve-copy")
        except OSError:  # no descriptor, no memory: this copy is lost
            return
        try:
            os.writev(descriptor, pack(head, [*blobs, reply]))
            socket.send_fds(self._socket, [b"\0"], [descriptor])
        except ConnectionError:
            raise
        except OSError:  # among them BlockingIOError: the other side is slow
            return
        finally:
            os.close(descriptor)
