"""From an answer to what is sent: a status, a body, and its type."""

from __future__ import annotations

import json
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy as np
import orjson

from handlers.accept import JSON
from handlers.errors import RequestError, TooLargeError
from handlers.guard import guard

# TorchServe takes no longer one (`max_response_size` in config.properties): its worker would be lost with it.
MAX_REPLY_BYTES = 16 * 2**20

Answer = dict[str, Any] | RequestError


class Reply(NamedTuple):  # as Item and Payload: a tuple is made in half the time of a frozen dataclass
    status: HTTPStatus
    body: bytes
    media_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def sendable(reply: Reply) -> Reply:
    if len(reply.body) <= MAX_REPLY_BYTES:
        return reply
    return to_reply(
        TooLargeError(
            f"the reply would have {len(reply.body):,} bytes, and at most {MAX_REPLY_BYTES:,} are sent: "
            "ask for less, or send less"
        )
    )


def to_reply(answer: Answer | Reply) -> Reply:
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, RequestError):
        return Reply(answer.status, _json(answer.body()))
    body = guard(_json, answer)  # no JSON: a NaN from the network, say
    return to_reply(body) if isinstance(body, RequestError) else Reply(HTTPStatus.OK, body)


def _json(value: Any) -> bytes:
    """As orjson writes it, arrays of numbers too, but for null and lone surrogates. Raises ValueError for NaN and
    Infinity."""
    with suppress(orjson.JSONEncodeError):
        text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        if b"null" not in text:  # orjson's word for NaN
            return text
    slow = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=np.ndarray.tolist)
    return slow.encode("utf-8", "replace")
