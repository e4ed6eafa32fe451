"""The bodies are of every kind that they are meant to be of."""

from __future__ import annotations

import pytest
from hypothesis import find, settings

from loadtest.reliability.fuzz import Request, requests

EXAMPLE: Request = (b'{"points": [1, 2, 3]}', {"content-type": "application/json"})
PATIENT = settings(max_examples=5000, database=None)


@pytest.mark.parametrize(
    "part", [b"NaN", b"Content-Disposition", b"\xff\xd8\xff\xc0", b"\x89PNG", b'{"data":{"data":', EXAMPLE[0][:10]]
)
def test_a_kind_comes(part: bytes) -> None:
    body, _ = find(requests(EXAMPLE), lambda one: part in one[0], settings=PATIENT)
    assert part in body


def test_the_example_comes_with_huge_headers() -> None:
    body, headers = find(requests(EXAMPLE), _has_huge_header, settings=PATIENT)
    assert (body, len(headers["X-Filler"])) == (EXAMPLE[0], 1001)


def _has_huge_header(request: Request) -> bool:
    return len(request[1].get("X-Filler", "")) > 1000
