"""Clients that look at each of their replies: fewer requests than wrk sends, and none unchecked."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

PATIENCE = 40.0  # seconds that a client waits


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and whether its reply is the right one; `kind` names what is counted together."""

    kind: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    is_right: Callable[[int, bytes], bool]


@dataclass(frozen=True, slots=True)
class Seen:
    """One reply, or none: then the status is 0. `at` is when the client knew it, of time.monotonic()."""

    kind: str
    status: int
    seconds: float
    right: bool
    at: float
    content: bytes = field(repr=False, default=b"")


def send(url: str, asks: Sequence[Ask], clients: int, seconds: float, pause: float = 0.0) -> list[Seen]:
    """So many clients ask in turn, each one waiting for its reply and then for `pause` seconds."""
    return asyncio.run(asend(url, asks, clients, seconds, pause))


async def asend(url: str, asks: Sequence[Ask], clients: int, seconds: float, pause: float = 0.0) -> list[Seen]:
    """As `send`."""
    seen: list[Seen] = []
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False, limits=limits) as client:
        end = time.monotonic() + seconds

        async def one(number: int) -> None:
            turn = number
            while time.monotonic() < end:
                seen.append(await _ask(client, asks[turn % len(asks)]))
                turn += clients
                await asyncio.sleep(pause)

        await asyncio.gather(*map(one, range(clients)))
    return seen


async def _ask(client: httpx.AsyncClient, ask: Ask) -> Seen:
    started = time.perf_counter()
    try:
        reply = await client.post(ask.path, content=ask.body, headers=ask.headers)
    except httpx.TransportError:
        return Seen(ask.kind, 0, time.perf_counter() - started, False, time.monotonic())
    took, at = time.perf_counter() - started, time.monotonic()
    return Seen(ask.kind, reply.status_code, took, ask.is_right(reply.status_code, reply.content), at, reply.content)


def percentile_ms(seen: Sequence[Seen], percent: int) -> float:
    """Of the time that these replies took; 0 where there are none."""
    times = sorted(1000 * one.seconds for one in seen)
    if len(times) < 2:
        return times[0] if times else 0.0
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]
