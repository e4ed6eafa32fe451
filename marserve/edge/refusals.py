"""Every way in which the edge says no: the same words over REST, in the handlers' form, and over gRPC, as a status."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

RETRY_AFTER = 1  # seconds


@dataclass(frozen=True, slots=True)
class Refusal:
    """`status` and `code` are what REST has, `grpc` is the number of gRPC's own status."""

    status: int
    code: str
    grpc: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()

    def rest(self) -> str:
        """For HAProxy: what follows `http-request return` and the like."""
        body = json.dumps({"error": {"code": self.code, "message": self.message}}, separators=(",", ":"))
        headers = "".join(f" hdr {name} {shlex.quote(value)}" for name, value in self.headers)
        return f"status {self.status} content-type application/json string {shlex.quote(body)}{headers}"

    def over_grpc(self, status: int = 200) -> str:
        """The same for gRPC, whose clients look at the trailers alone: a reply that has no message, but those."""
        return f"status {status} hdr grpc-status {self.grpc} hdr grpc-message {shlex.quote(self.message)}"


_AGAIN = (("Retry-After", str(RETRY_AFTER)),)
# gRPC's numbers: 3 INVALID_ARGUMENT, 4 DEADLINE_EXCEEDED, 5 NOT_FOUND, 8 RESOURCE_EXHAUSTED, 12 UNIMPLEMENTED,
# 13 INTERNAL, 14 UNAVAILABLE, 16 UNAUTHENTICATED.
BAD_REQUEST = Refusal(400, "bad_request", 3, "this is no valid HTTP request")
BAD_FORM = Refusal(400, "bad_request", 3, "the form is broken: a part without name, a bad boundary, charset or escape")
UNAUTHENTICATED = Refusal(
    401,
    "unauthenticated",
    16,
    "a valid key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
    (("WWW-Authenticate", "Bearer"),),
)
NOT_FOUND = Refusal(404, "not_found", 12, "there is /predictions/NAME, /explanations/NAME and /health")
NO_MODEL = Refusal(404, "not_found", 5, "no such model or version")
POST_ONLY = Refusal(405, "not_allowed", 12, "use POST or PUT", (("Allow", "POST, PUT"),))
GET_ONLY = Refusal(405, "not_allowed", 12, "use GET", (("Allow", "GET, HEAD"),))
SLOW = Refusal(408, "too_slow", 4, "the request took too long to arrive")
OVERLOADED = Refusal(429, "overloaded", 8, "too many requests wait for this model: try again later", _AGAIN)
OVER_RATE = Refusal(429, "over_rate", 8, "more requests per second than this key may send", _AGAIN)
HEADERS_TOO_LARGE = Refusal(431, "headers_too_large", 8, "the headers are too large")
INTERNAL = Refusal(500, "internal", 13, "a fault of the server's")
DIED = Refusal(502, "worker_died", 14, "workers died on this request")
NO_REPLY = Refusal(502, "no_reply", 14, "the server broke off before it had answered")
UNAVAILABLE = Refusal(503, "unavailable", 14, "no server is ready", _AGAIN)
NO_WORKER = Refusal(503, "unavailable", 14, "no worker of this model is ready", _AGAIN)
TIMEOUT = Refusal(504, "timeout", 4, "the server did not answer in time")


def too_large(most: int) -> Refusal:
    """A body of more than `most` bytes."""
    return Refusal(413, "too_large", 8, f"a request may have {most} bytes at most")
