"""Sends copies to the candidate, over TorchServe directly, as the handler saw them. Knows nothing of comparing."""

from __future__ import annotations

import secrets
import select
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple
from urllib.parse import quote

from marserve.settings import Address
from marserve.shadow.copies import Copy

TIMED_OUT, NO_ANSWER = "timed out", "no answer"
_LOOK = 200  # milliseconds

# Of the connection that a request came over, or TorchServe's own; the time since a proxy got it would be wrong by now.
_NOT_SENT = {
    *("connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer"),
    *("transfer-encoding", "upgrade", "explain", "x-request-start"),
}


class Answer(NamedTuple):
    status: int | str  # or why there is none
    body: bytes
    seconds: float


class Replay:
    """One connection, for one thread. Never more than one request of it is in TorchServe, however long that takes."""

    def __init__(self, address: Address, model: str, version: str, limit: float, ending: threading.Event) -> None:
        self._address = address
        self._place = f"{quote(model, safe='')}/{quote(version, safe='')}"
        self._limit = limit
        self._ending = ending
        self._late = False
        self._connect()

    def send(self, copy: Copy) -> Answer:
        """The answer, if it came within the limit (seconds)."""
        started = time.monotonic()
        reused = self._connection.sock is not None
        try:
            return self._ask(copy, started)
        except (OSError, HTTPException, ValueError) as error:
            self._connection.close()
            self._connect()
            if reused and isinstance(error, ConnectionError):  # it was closed after the last reply
                return self.send(copy)
            return Answer(TIMED_OUT if isinstance(error, TimeoutError) else NO_ANSWER, b"", time.monotonic() - started)

    def settle(self) -> None:
        """Wait for an answer that is late, until TorchServe gives it up or the end has come.

        Meanwhile no other request is sent: of a candidate that hangs TorchServe would keep them all in its memory.
        """
        if self._late:
            while not self._ending.is_set() and not self._readable(_LOOK / 1000):
                pass
            self._late = False
            self._connection.close()

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> None:
        """At the next request; a connection with half a request in it cannot be used again."""
        self._connection = HTTPConnection(self._address.host, self._address.port, timeout=self._limit)

    def _ask(self, copy: Copy, started: float) -> Answer:
        self._request(copy)
        if not self._readable(max(0.0, started + self._limit - time.monotonic())):
            self._late = True
            return Answer(TIMED_OUT, b"", time.monotonic() - started)
        reply = self._connection.getresponse()
        return Answer(reply.status, reply.read(), time.monotonic() - started)

    def _readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._connection.sock, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def _request(self, copy: Copy) -> None:
        verb = "explanations" if copy.headers.get("explain") == "True" else "predictions"
        content_type, body = content(copy)
        self._connection.putrequest("POST", f"/{verb}/{self._place}", skip_accept_encoding=True)
        for name, value in copy.headers.items():
            if isinstance(value, str) and name.lower() not in _NOT_SENT:
                self._connection.putheader(name, value.encode("latin-1", "replace"))
        if "explain" not in copy.headers:  # it came over gRPC, where every reply is JSON
            self._connection.putheader("accept", "application/json")
        if content_type:
            self._connection.putheader("content-type", content_type.encode("latin-1", "replace"))
        self._connection.putheader("content-length", str(len(body)))
        self._connection.endheaders(body)


def content(copy: Copy) -> tuple[str, bytes]:
    """A content type and a body of which TorchServe makes the same fields, whether they came over REST or gRPC."""
    came_as = next((str(value) for name, value in copy.headers.items() if name.lower() == "content-type"), "")
    if not copy.bodies:  # a form, or nothing: the handler got nothing of either
        return "", b""
    if set(copy.bodies) == {"body"} and not came_as.lower().startswith("multipart/"):
        return came_as or _kind(copy.headers, "body"), copy.bodies["body"]
    boundary = secrets.token_hex(16)
    parts: list[bytes] = []
    for name, body in copy.bodies.items():
        quoted = name.translate({ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A"})
        # With a file's name, or TorchServe would take the bytes for text.
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted}"; filename="{quoted}"\r\n'
        kind = _kind(copy.headers, name)
        head += f"Content-Type: {kind}\r\n" if kind else ""
        parts += (head.encode(), b"\r\n", body, b"\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _kind(headers: Mapping[str, object], field: str) -> str:
    kind = headers.get(field)
    return str(kind.get("content-type") or "") if isinstance(kind, Mapping) else ""
