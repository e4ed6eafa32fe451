"""Bodies and headers that hypothesis makes up, and an archive's example with some of its bytes changed."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from marserve.archive import Archive

Request = tuple[bytes, dict[str, str]]

_KINDS = st.sampled_from(
    [
        "application/json",
        "application/octet-stream",
        "image/jpeg",
        "text/plain; charset=utf-16",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "",
        "nonsense",
    ]
)
_KEYS = st.sampled_from(
    ["data", "b64", "instances", "features", "points", "x", "y", "t", "kind", "count", "group", "random", "explain"]
) | st.text(max_size=5)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(_KEYS, inner, max_size=6), max_leaves=20
)
_OBJECTS = st.dictionaries(_KEYS, _VALUES, max_size=6)


def requests(example: Request) -> st.SearchStrategy[Request]:
    """Bytes, JSON, forms and mutations of the example, each with some content type."""
    body, headers = example
    texts = _OBJECTS.map(lambda value: json.dumps(value).encode())  # NaN and Infinity among them
    deep = st.integers(1, 20_000).map(lambda depth: b'{"data":' * depth)
    bodies = st.one_of(st.binary(max_size=2000), texts, deep, _forms(body), _mutations(body), _bombs())
    huge = st.integers(0, 7000).map(lambda size: {"X-Filler": "x" * size})
    kinds = _KINDS.map(lambda kind: {"content-type": kind})
    plain = st.tuples(bodies, st.one_of(kinds, st.just(headers)))
    return st.one_of(plain, plain, st.tuples(st.just(body), huge), st.tuples(_mutations(body), st.just(headers)))


def _mutations(body: bytes) -> st.SearchStrategy[bytes]:
    """Cut off, or with bytes changed, taken out or doubled at places that a seed chooses."""

    def mutate(seed: int) -> bytes:
        dice = random.Random(seed)  # noqa: S311
        data = bytearray(body)
        for _ in range(dice.choice((1, 2, 5, 50))):
            at = dice.randrange(len(data))
            change = dice.choice(("cut", "byte", "byte", "drop", "double"))
            if change == "cut" and at:
                del data[at:]
            elif change == "drop":
                del data[at : min(at + dice.randrange(1, 20), len(data) - 1)]
            elif change == "double":
                data[at:at] = data[at : at + dice.randrange(1, 200)]
            else:
                data[at] = dice.randrange(256)
        return bytes(data)

    return st.integers(0, 2**32).map(mutate)


def _forms(body: bytes) -> st.SearchStrategy[bytes]:
    """Multipart bodies with the boundary `x`: fields named twice, without a name, without an end."""
    names = st.sampled_from([b'name="data"', b'name="file"', b'name="other"', b"", b'name="data"; filename="a.jpg"'])
    contents = st.sampled_from([body, b"", b"{}", b"\xff\xfe"])
    parts = st.tuples(names, contents).map(
        lambda part: b"--x\r\nContent-Disposition: form-data; " + part[0] + b"\r\n\r\n" + part[1] + b"\r\n"
    )
    ends = st.sampled_from([b"--x--\r\n", b"--x", b"", b"--y--\r\n"])
    return st.tuples(st.lists(parts, max_size=3).map(b"".join), ends).map(b"".join)


def _bombs() -> st.SearchStrategy[bytes]:
    """Images whose header promises up to 65,535 x 65,535 pixels, with little behind it."""
    sizes = st.integers(1, 65535)

    def jpeg(size: tuple[int, int]) -> bytes:
        frame = bytes([0xFF, 0xC0, 0, 17, 8]) + size[0].to_bytes(2, "big") + size[1].to_bytes(2, "big")
        return b"\xff\xd8" + frame + bytes([3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]) + b"\xff\xda" + b"\0" * 100

    def png(size: tuple[int, int]) -> bytes:
        head = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
        return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + head + b"\0\0\0\0" + b"\0\0\0\0IEND\xaeB`\x82"

    return st.tuples(sizes, sizes).map(jpeg) | st.tuples(sizes, sizes).map(png)


@dataclass(slots=True)
class Found:
    """How often each status came, 0 for no reply; and of server errors the first request with its reply."""

    statuses: Counter[int] = field(default_factory=Counter)
    example: str = ""

    @property
    def server_errors(self) -> int:
        return sum(count for status, count in self.statuses.items() if not status or status >= 500)


def fuzz_endpoint(url: str, archive: Archive, bodies: int) -> Found:
    """Send so many to the archive's model, one after the other."""
    found = Found()
    path = f"/predictions/{archive.name}"
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:

        @settings(
            max_examples=bodies,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests(archive.example_request()))
        def ask(request: Request) -> None:
            body, headers = request
            try:
                reply = client.post(path, content=body, headers=headers)
                status, said = reply.status_code, reply.text
            except httpx.TransportError as error:
                status, said = 0, repr(error)
            found.statuses[status] += 1
            if (not status or status >= 500) and not found.example:
                found.example = f"{body[:80]!r} with {str(headers)[:80]}: {said[:160]}"

        ask()
    return found
