"""TorchServe's wire protocol between front end and worker, with few system calls and copies.

The original (`ts.protocol.otf_message_handler` of TorchServe 0.12.0) asks the socket for every field, about 30 times
per request. Here a buffered reader asks it, and replies of bytes or text are joined at once. Everything rare goes to
the original; tests hold both to be equal on generated messages.
"""

from __future__ import annotations

import logging
import struct
import sys
import time
from collections.abc import Mapping
from io import BufferedReader
from socket import SocketIO, socket
from types import ModuleType
from typing import Any

VERSION = "0.12.0"  # of TorchServe, the only one whose protocol this is known to be
BUFFER = 1 << 18  # bytes

_INT = struct.Struct("!i")
_END = _INT.pack(-1)
_NOTHING = _INT.pack(0)


class _Connection:
    """The reader of the one connection that a worker serves at a time."""

    def __init__(self) -> None:
        self._socket: socket | None = None
        self._reader: BufferedReader | None = None

    def reader(self, connection: socket) -> BufferedReader:
        if self._reader is None or self._socket is not connection:
            self._socket, self._reader = connection, BufferedReader(SocketIO(connection, "r"), BUFFER)
        return self._reader


def install(module: ModuleType) -> None:
    """Put these in the place of the module's own `_retrieve_buffer`, `retrieve_msg` and `create_predict_response`."""
    connection = _Connection()
    original_retrieve, original_response = module.retrieve_msg, module.create_predict_response
    decodes_itself = module.os.environ.get("TS_DECODE_INPUT_REQUEST") != "false"

    def retrieve_buffer(conn: socket, length: int) -> bytes:
        return _exactly(connection.reader(conn), length)

    def retrieve_msg(conn: socket) -> tuple[bytes, Any]:
        reader = connection.reader(conn)
        if decodes_itself or reader.peek(1)[:1] != module.PREDICT_MSG:
            return original_retrieve(conn)  # type: ignore[no-any-return]
        reader.read(1)
        message = read_requests(reader)
        logging.info("Backend received inference at: %d", time.time())
        return module.PREDICT_MSG, message

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
            if reply is not None and module.os.environ.get("LOCAL_RANK", "0") == "0":
                return reply
        return original_response(ret, req_id_map, message, code, context, ts_stream_next)  # type: ignore[no-any-return]

    module.__dict__.update(
        _retrieve_buffer=retrieve_buffer, retrieve_msg=retrieve_msg, create_predict_response=create_predict_response
    )


def read_requests(reader: BufferedReader) -> list[dict[str, Any]]:
    """A batch: of each request its id, headers and parameters, undecoded. Without a front end the process ends."""

    def text() -> bytes | None:
        """A field with its length before it; None at the end of a list."""
        (length,) = _INT.unpack(_exactly(reader, 4))
        return None if length == -1 else _exactly(reader, length)

    def needed() -> bytes:
        (length,) = _INT.unpack(_exactly(reader, 4))
        return _exactly(reader, length)

    requests = []
    while (request_id := text()) is not None:
        headers, parameters = [], []
        while (name := text()) is not None:
            headers.append({"name": name, "value": needed()})
        while (name := text()) is not None:
            content_type = needed().decode()
            parameters.append({"name": name.decode(), "contentType": content_type, "value": needed()})
        requests.append({"requestId": request_id, "headers": headers, "parameters": parameters})
    return requests


def write_replies(ret: Any, req_id_map: Mapping[int, str], message: str, code: int, context: Any) -> bytes | None:
    """The message with all replies of a batch; None where one of them is neither bytes nor text, or is streamed."""
    parts = [_INT.pack(code), *_text(message)]
    for index, request_id in req_id_map.items():
        body = ret[index]
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, (bytes, bytearray)):
            return None
        headers = context.get_response_headers(index)
        if "ts_stream_next" in headers:
            return None
        content_type = context.get_response_content_type(index) or ""
        status, phrase = context.get_response_status(index)
        parts += _text(request_id)
        parts += (_INT.pack(len(content_type)), content_type.encode())
        parts += (_INT.pack(200 if status is None else status), _INT.pack(len(phrase or "")), (phrase or "").encode())
        parts.append(_INT.pack(len(headers)))
        for name, value in headers.items():
            parts += (*_text(name), *_text(value))
        parts += (_INT.pack(len(body)), body)
    parts.append(_END)
    return b"".join(parts)


def _text(text: str) -> tuple[bytes, bytes]:
    data = text.encode()
    return _INT.pack(len(data)), data


def _exactly(reader: BufferedReader, length: int) -> bytes:
    data = reader.read(length) if length > 0 else b""
    if len(data) < length:
        logging.info("Frontend disconnected.")
        sys.exit(0)
    return data
