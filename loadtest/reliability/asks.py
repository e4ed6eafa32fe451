"""Requests for the trials: every archive's own example, whose answer is known, and bodies that no model takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import httpx

from loadtest.reliability.traffic import Ask
from marserve.archive import Archive

HEALTHY, BAD = "healthy", "bad"
JSON = {"content-type": "application/json"}
BYTES = {"content-type": "application/octet-stream"}
_REFUSALS = (400, 413, 415, 422)


def healthy(url: str, archives: Sequence[Archive]) -> list[Ask]:
    """Each archive's example, with the answer that the server gives before the trial begins."""
    asks = []
    for archive in archives:
        body, headers = archive.example_request()
        path = f"/predictions/{archive.name}"
        reply = httpx.post(f"{url}{path}", content=body, headers=headers, timeout=30, trust_env=False)
        expected = reply.raise_for_status().content
        asks.append(Ask(HEALTHY, path, body, headers, partial(_is_answer, expected)))
    return asks


def poison(archives: Sequence[Archive]) -> list[Ask]:
    """What every handler has to refuse."""
    asks = []
    for archive in archives:
        body, headers = archive.example_request()
        for broken, kind in (
            (body[: len(body) // 2], headers),
            (bytes(range(256)) * 40, BYTES),
            (b"\xff\xd8\xff\xe0" + b"garbage" * 100, BYTES),
            (b'{"data": "not base64!"}', JSON),
            (b'{"features": [NaN]}', JSON),
            (b"[" * 5000, JSON),
            (b"", JSON),
            (b'{"instances": "none"}', JSON),
        ):
            asks.append(Ask(BAD, f"/predictions/{archive.name}", broken, kind, is_refusal))
    return asks


def is_refusal(status: int, content: bytes) -> bool:
    """Whether a reply says in the handlers' form what was wrong with its request."""
    try:
        error = json.loads(content)["error"]
        return status in _REFUSALS and isinstance(error["code"], str) and bool(error["message"])
    except (ValueError, LookupError, TypeError):
        return False


def _is_answer(expected: bytes, status: int, content: bytes) -> bool:
    return status == 200 and content == expected
