"""TorchServe's wire protocol between front end and worker, with few system calls, copies and Python steps.

The original (`ts.protocol.otf_message_handler` and `ts.service` of TorchServe 0.12.0) asks the socket for every field,
about 30 times per request, and rearranges what came twice. Here a batch is read as a whole, right into the form that
handlers get, and replies of bytes or text are joined at once. Everything rare goes to the original; tests hold both to
be equal on generated messages.
"""

from __future__ import annotations

import logging
import struct
import sys
from collections.abc import Mapping
from functools import lru_cache
from socket import socket
from types import ModuleType
from typing import Any, NamedTuple

VERSION = "0.12.0"  # of TorchServe, the only one whose protocol this is known to be
BUFFER = 1 << 18  # bytes that are asked for at once

_INT = struct.Struct("!i")
_END = _INT.pack(-1)


class Batch(NamedTuple):
    """Requests as `ts.service` wants them: headers and bodies of each by name, and its id by index."""

    headers: list[dict[str, Any]]
    bodies: list[dict[str, bytes]]
    ids: dict[int, str]


class _ShortError(Exception):
    """The data ends before `end`."""

    def __init__(self, end: int) -> None:
        self.end = end


class Reader:
    """What has come over a connection and was not read yet."""

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._data = b""
        self._at = 0

    def take(self, length: int) -> bytes:
        """The next bytes. Where the front end is gone the process ends."""
        self._need(self._at + length)
        start, self._at = self._at, self._at + length
        return self._data[start : self._at]

    def next(self) -> bytes:
        """The next byte, which stays."""
        self._need(self._at + 1)
        return self._data[self._at : self._at + 1]

    @property
    def unread(self) -> bool:
        """Whether something has been received already that nobody took."""
        return self._at < len(self._data)

    def batch(self) -> Batch:
        """All requests up to the end of the list."""
        batch = Batch([], [], {})
        while True:
            try:
                at = _request(self._data, self._at, batch)
            except _ShortError as short:  # it has not come whole, and is read again once more of it is there
                self._need(short.end)
                continue
            self._at = abs(at)
            if at < 0:
                return batch

    def _need(self, end: int) -> None:
        """Receive until so many bytes are there; drop what was read before."""
        missing = end - len(self._data)
        if missing <= 0:
            return
        parts = [self._data[self._at :]]
        self._at = 0
        while missing > 0:
            part = self._connection.recv(max(BUFFER, missing))
            if not part:
                logging.info("Frontend disconnected.")
                sys.exit(0)
            parts.append(part)
            missing -= len(part)
        self._data = b"".join(parts)


def _request(data: bytes, at: int, batch: Batch) -> int:
    """Add the request at an offset to the batch; where it ends, negative for the end of the list.

    Raises _ShortError where the data ends before it. One function and no helpers: this is the worker's innermost loop.
    """
    unpack, size = _INT.unpack_from, len(data)
    headers: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    bodies: dict[str, bytes] = {}
    try:
        (length,) = unpack(data, at)
        at += 4
        if length == -1:
            return -at
        request_id = data[at : at + length]
        at += length
        (length,) = unpack(data, at)
        at += 4
        while length != -1:
            name = data[at : at + length]
            at += length
            (length,) = unpack(data, at)
            at += 4
            end = at + length
            if end > size:  # or half a character would be decoded
                raise _ShortError(end)
            headers[name.decode()] = data[at:end].decode()
            at = end
            (length,) = unpack(data, at)
            at += 4
        (length,) = unpack(data, at)
        at += 4
        while length != -1:
            name = data[at : at + length]
            at += length
            (length,) = unpack(data, at)
            at += 4
            kind = data[at : at + length]
            at += length
            (length,) = unpack(data, at)
            at += 4
            end = at + length
            if end > size:
                raise _ShortError(end)
            text = name.decode()
            kinds[text] = {"content-type": kind.decode()}
            bodies[text] = data[at:end]
            at = end
            (length,) = unpack(data, at)
            at += 4
    except struct.error:  # also behind a field that was cut off
        raise _ShortError(at + 4) from None
    batch.ids[len(batch.ids)] = request_id.decode()
    batch.headers.append(kinds | headers)
    batch.bodies.append(bodies)
    return at


_readers: dict[socket, Reader] = {}


def unread(connection: socket) -> bool:
    """Whether a process that took this connection over would miss a part of what came."""
    return connection in _readers and _readers[connection].unread


def install(protocol: ModuleType) -> None:
    """Put these in the place of `ts.protocol.otf_message_handler`'s functions."""
    original_retrieve, original_response = protocol.retrieve_msg, protocol.create_predict_response
    decodes_itself = protocol.os.environ.get("TS_DECODE_INPUT_REQUEST") != "false"

    def reader_of(connection: socket) -> Reader:
        if connection not in _readers:
            _readers.clear()  # a worker serves one connection at a time
            _readers[connection] = Reader(connection)
        return _readers[connection]

    def retrieve_buffer(conn: socket, length: int) -> bytes:
        return reader_of(conn).take(length)

    def retrieve_msg(conn: socket) -> tuple[bytes, Any]:
        reader = reader_of(conn)
        if decodes_itself or reader.next() != protocol.PREDICT_MSG:
            return original_retrieve(conn)  # type: ignore[no-any-return]
        reader.take(1)
        batch = reader.batch()
        return protocol.PREDICT_MSG, batch

    def create_predict_response(
        ret: Any,
        req_id_map: Mapping[int, str],
        message: str,
        code: int,
        context: Any = None,
        ts_stream_next: bool = False,
    ) -> bytes | bytearray | None:
        if ret is not None and context is not None and not ts_stream_next and not context.stopping_criteria:
            reply = write_replies(ret, req_id_map, message, code, context)
            if reply is not None and protocol.os.environ.get("LOCAL_RANK", "0") == "0":
                return reply
        return original_response(ret, req_id_map, message, code, context, ts_stream_next)  # type: ignore[no-any-return]

    protocol.__dict__.update(
        _retrieve_buffer=retrieve_buffer, retrieve_msg=retrieve_msg, create_predict_response=create_predict_response
    )


def install_service(service: ModuleType) -> None:
    """Let `ts.service` take a `Batch` as it is."""
    original = service.Service.retrieve_data_for_inference

    def retrieve_data_for_inference(batch: Any) -> tuple[list[Any], list[dict[str, bytes]], dict[int, str]]:
        if not isinstance(batch, Batch):
            return original(batch)  # type: ignore[no-any-return]
        return list(map(service.RequestProcessor, batch.headers)), batch.bodies, batch.ids

    service.Service.retrieve_data_for_inference = staticmethod(retrieve_data_for_inference)


def write_replies(ret: Any, req_id_map: Mapping[int, str], message: str, code: int, context: Any) -> bytes | None:
    """The message with all replies of a batch; None where one of them is neither bytes nor text, or is streamed."""
    parts = [_INT.pack(code), _field(message)]
    for processor, (index, request_id) in zip(context.request_processor, req_id_map.items(), strict=True):
        body = ret[index]
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, (bytes, bytearray)):
            return None
        headers = processor.get_response_headers()
        if "ts_stream_next" in headers:
            return None
        status, phrase = processor.get_response_status_code(), processor.get_response_status_phrase()
        parts += (_field(request_id), _head(status, phrase, tuple(headers.items())), _INT.pack(len(body)), body)
    parts.append(_END)
    return b"".join(parts)


@lru_cache(maxsize=256)
def _head(status: int | None, phrase: str | None, headers: tuple[tuple[str, str], ...]) -> bytes:
    """What stands between a request's id and the body of its reply; nearly always the same."""
    content_type, phrase = dict(headers).get("content-type") or "", phrase or ""
    parts = [_INT.pack(len(content_type)), content_type.encode()]
    parts += (_INT.pack(200 if status is None else status), _INT.pack(len(phrase)), phrase.encode())
    parts.append(_INT.pack(len(headers)))
    parts += (_field(text) for header in headers for text in header)
    return b"".join(parts)


def _field(text: str) -> bytes:
    data = text.encode()
    return _INT.pack(len(data)) + data
