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
import time
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

    def batch(self) -> Batch:
        """All requests up to the end of the list."""
        batch = Batch([], [], {})
        while self._request(batch):
            pass
        return batch

    def _request(self, batch: Batch) -> bool:
        """One more request into the batch; False where the list ends."""
        while True:
            try:
                fields, end = _fields(self._data, self._at)
                break
            except _ShortError as short:  # it has not come whole, and is read again once more of it is there
                self._need(short.end)
        self._at = end
        if not fields:
            return False
        request_id, headers, parameters = fields
        properties: dict[str, Any] = {name.decode(): {"content-type": kind.decode()} for name, kind, _ in parameters}
        for name, value in headers:
            properties[name.decode()] = value.decode()
        batch.ids[len(batch.ids)] = request_id.decode()
        batch.headers.append(properties)
        batch.bodies.append({name.decode(): value for name, _, value in parameters})
        return True

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


_Fields = tuple[bytes, list[tuple[bytes, bytes]], list[tuple[bytes, bytes, bytes]]]


def _fields(data: bytes, at: int) -> tuple[_Fields | None, int]:
    """Id, headers and parameters of the request at an offset, or None for the end of the list; and where it ends.

    Raises _ShortError where the data ends before it. One function and no helpers: this is the worker's innermost loop.
    """
    unpack, size = _INT.unpack_from, len(data)
    try:
        (length,) = unpack(data, at)
        at += 4
        if length == -1:
            return None, at
        request_id = data[at : at + length]
        at += length
        headers = []
        while True:
            (length,) = unpack(data, at)
            at += 4
            if length == -1:
                break
            name = data[at : at + length]
            at += length
            (length,) = unpack(data, at)
            at += 4
            headers.append((name, data[at : at + length]))
            at += length
        parameters: list[tuple[bytes, bytes, bytes]] = []
        while True:
            (length,) = unpack(data, at)
            at += 4
            if length == -1:
                return (request_id, headers, parameters), at
            name = data[at : at + length]
            at += length
            (length,) = unpack(data, at)
            at += 4
            kind = data[at : at + length]
            at += length
            (length,) = unpack(data, at)
            at += 4
            if at + length > size:
                raise _ShortError(at + length)
            parameters.append((name, kind, data[at : at + length]))
            at += length
    except struct.error:  # also behind a field that was cut off
        raise _ShortError(at + 4) from None


def install(protocol: ModuleType) -> None:
    """Put these in the place of `ts.protocol.otf_message_handler`'s functions."""
    readers: dict[socket, Reader] = {}
    original_retrieve, original_response = protocol.retrieve_msg, protocol.create_predict_response
    decodes_itself = protocol.os.environ.get("TS_DECODE_INPUT_REQUEST") != "false"

    def reader_of(connection: socket) -> Reader:
        if connection not in readers:
            readers.clear()  # a worker serves one connection at a time
            readers[connection] = Reader(connection)
        return readers[connection]

    def retrieve_buffer(conn: socket, length: int) -> bytes:
        return reader_of(conn).take(length)

    def retrieve_msg(conn: socket) -> tuple[bytes, Any]:
        reader = reader_of(conn)
        if decodes_itself or reader.next() != protocol.PREDICT_MSG:
            return original_retrieve(conn)  # type: ignore[no-any-return]
        reader.take(1)
        batch = reader.batch()
        logging.info("Backend received inference at: %d", time.time())
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
