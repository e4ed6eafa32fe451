"""One function per trial: it puts a stack under some strain and says what happened, and what should not have."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx

from loadtest.outcome import Outcome
from loadtest.reliability import asks
from loadtest.reliability.fuzz import fuzz_endpoint
from loadtest.reliability.stack import Stack, running
from loadtest.reliability.traffic import Ask, Seen, asend, percentile_ms, send
from marserve import wrk

IMAGE, MOVEMENT, TICKET, CHALLENGE = "captcha_image", "drag_pattern", "ticket_slice", "captcha_challenge"
CLIENTS = 16
POISONED = 10  # one request in so many
BETWEEN_KILLS = 10.0  # seconds
BACK = 3.0  # seconds until a killed worker's successor is READY
SERVER_BACK, EDGE_BACK = 6.0, 2.0  # seconds without an answer when TorchServe, or HAProxy, is killed
KEEPING = 8  # clients that keep asking meanwhile, of the server and of the edge
AT_LAST = 60.0  # seconds after which what is not back will not be
OVERLOAD = 5  # times the capacity
FLOOD = 400  # connections of the overload
GOODPUT = 0.9  # of the capacity
REJECTED_MS = 50.0
SLOW = 500  # connections
DISTURBED = 1.5  # times the p99 without slow clients, and 5 ms more
GROWTH = 0.05  # of memory in the second half of the fuzzing: heaps find their size in the first


@dataclass(frozen=True, slots=True)
class Options:
    """`seconds` is how long each part of a trial lasts, `bodies` how many the fuzzing sends to each endpoint."""

    model_store: Path
    seconds: float
    bodies: int


def poison(options: Options) -> Outcome:
    """One request in ten is garbage: every other one gets its 200, and each of these its 4xx."""
    outcome = Outcome()
    with running(options.model_store, [IMAGE, MOVEMENT, TICKET]) as stack:
        good, bad = asks.healthy(stack.server, stack.archives), asks.poison(stack.archives)
        mixed = [bad[turn // POISONED % len(bad)] if turn % POISONED == 0 else good[turn % len(good)]
                 for turn in range(POISONED * len(bad) * len(good))]  # fmt: skip
        random.Random(0).shuffle(mixed)  # noqa: S311
        before = stack.workers()
        for name, url in (("server", stack.server), ("edge", stack.edge)):
            seen = send(url, mixed, CLIENTS, options.seconds)
            for kind in (asks.HEALTHY, asks.BAD):
                own = [one for one in seen if one.kind == kind]
                wrong = [one for one in own if not one.right]
                outcome.figures |= {f"{kind}, {name}": len(own), f"{kind} wrongly answered, {name}": len(wrong)}
                outcome.promise(not wrong, f"{name}: {len(wrong)} {kind} requests with {_statuses(wrong)}")
        outcome.promise(stack.workers() == before, "a worker died")
    return outcome


def fuzz(options: Options) -> Outcome:
    """Generated bodies for every endpoint: no 5xx, no worker death, memory bounded."""
    outcome = Outcome()
    memory = []
    with running(options.model_store, [IMAGE, MOVEMENT, TICKET, CHALLENGE]) as stack:
        before = stack.workers()
        for name, url in (("server", stack.server), ("edge", stack.edge)):
            for archive in stack.archives:
                found = fuzz_endpoint(url, archive, options.bodies // 2)
                outcome.figures[f"{archive.name}, {name}"] = _counted(found.statuses)
                # What TorchServe itself says to a broken form is a 500: the edge is there for that.
                if name == "edge":
                    outcome.promise(not found.server_errors, f"{archive.name}: {found.server_errors}, {found.example}")
            memory.append(stack.memory_mb())
        grown = memory[1] / memory[0] - 1
        outcome.figures["memory after each half MB"] = ", ".join(f"{size:.0f}" for size in memory)
        outcome.goal(grown < GROWTH, f"memory grew by {grown:.1%} in the second half")
        outcome.promise(stack.workers() == before, "a worker died")
    return outcome


def kills(options: Options) -> Outcome:
    """A worker is killed every ten seconds under load: nobody notices at the edge, and its successor is soon READY."""
    outcome = Outcome()
    with running(options.model_store, [MOVEMENT]) as stack:
        good = asks.healthy(stack.server, stack.archives)
        for name, url in (("server", stack.server), ("edge", stack.edge)):
            killer = _Killer(stack, options.seconds)
            killer.start()
            seen = send(url, good, CLIENTS, options.seconds)
            killer.join()
            failed = [one for one in seen if not one.right]
            outcome.figures |= {
                f"kills, {name}": len(killer.seconds_back),
                f"requests, {name}": len(seen),
                f"failed, {name}": len(failed),
                f"slowest return s, {name}": round(max(killer.seconds_back, default=0.0), 2),
            }
            outcome.promise(bool(killer.seconds_back), f"{name}: no worker was killed")
            outcome.promise(not failed or name == "server", f"{name}: {len(failed)} failed with {_statuses(failed)}")
            outcome.promise(
                len(failed) <= CLIENTS * len(killer.seconds_back), f"{name}: more failed than were on killed workers"
            )
            outcome.goal(all(one <= BACK for one in killer.seconds_back), f"{name}: a worker took over {BACK} s")
    return outcome


def deaths(options: Options) -> Outcome:
    """TorchServe and HAProxy's processes are killed under load: each comes back by itself."""
    outcome = Outcome()
    with running(options.model_store, [MOVEMENT]) as stack:
        good = asks.healthy(stack.server, stack.archives)
        urls = {"server": stack.server, "edge": stack.edge}
        victims: Mapping[str, tuple[Callable[[], int], float]] = {
            "TorchServe": (stack.front_end, SERVER_BACK),
            "HAProxy's master": (lambda: stack.haproxy()[0], EDGE_BACK),
            "HAProxy's worker": (lambda: stack.haproxy()[1], EDGE_BACK),
        }
        for victim, (find, goal) in victims.items():

            async def killed(pid: int) -> list[list[Seen]]:
                asking = [
                    asyncio.create_task(asend(url, good, KEEPING, options.seconds, 0.02)) for url in urls.values()
                ]
                await asyncio.sleep(1)
                os.kill(pid, signal.SIGKILL)
                return await asyncio.gather(*asking)

            for (name, url), seen in zip(urls.items(), asyncio.run(killed(find())), strict=True):
                failed, silent = [one for one in seen if not one.right], _longest_silence(seen)
                outcome.figures |= {
                    f"{victim}: requests, {name}": len(seen),
                    f"{victim}: failed, {name}": _statuses(failed) or "none",
                    f"{victim}: longest without an answer s, {name}": round(silent, 2),
                }
                outcome.goal(silent <= goal, f"{victim}: nobody got an answer from the {name} for {silent:.1f} s")
                outcome.promise(_answers(url, good[0]), f"{victim}: the {name} did not come back")
                if victim != "TorchServe":
                    outcome.promise(not failed or name == "edge", f"{victim}: the server failed too")
                elif name == "edge":
                    lost = [one for one in failed if one.status != 503]
                    outcome.promise(len(lost) <= KEEPING, f"{victim}: the edge lost {_statuses(lost)}")
    return outcome


def overload(options: Options) -> Outcome:
    """Five times what the server can do: it does what it can, and says no at once to the rest."""
    outcome = Outcome()
    with running(options.model_store, [IMAGE], "model: {in_flight: 24, queue: 16, queue_seconds: 1}\n") as stack:
        (ask,) = asks.healthy(stack.server, stack.archives)
        request = [wrk.Request(ask.path, ask.body, ask.headers)]
        wrk.run(stack.edge, request, CLIENTS, 5)
        capacity = wrk.run(stack.edge, request, CLIENTS, options.seconds / 2).rps
        pause = max(1, round(1000 * FLOOD / (OVERLOAD * capacity)))
        found: list[wrk.Figures] = []
        flood = threading.Thread(
            target=lambda: found.append(wrk.run(stack.edge, request, FLOOD, options.seconds, pause))
        )
        flood.start()
        time.sleep(1)
        seen = send(stack.edge, [ask], 8, options.seconds - 2, pause=0.1)
        flood.join()
        (figures,) = found
        offered = figures.rps
        goodput = offered * (figures.requests - figures.errors) / figures.requests
        rejected = [one for one in seen if one.status == 429]
        others = [one for one in seen if not one.right and one.status != 429]
        outcome.figures = {
            "capacity req/s": round(capacity),
            "offered req/s": round(offered),
            "goodput req/s": round(goodput),
            "goodput of capacity": f"{goodput / capacity:.0%}",
            "rejected of those looked at": f"{len(rejected)} of {len(seen)}",
            "rejected p99 ms": round(percentile_ms(rejected, 99), 1),
            "slowest ms": round(1000 * max(one.seconds for one in seen)),
        }
        outcome.goal(bool(rejected), "nothing was rejected: this was no overload")
        outcome.goal(goodput >= GOODPUT * capacity, f"goodput is {goodput / capacity:.0%} of the capacity")
        outcome.goal(percentile_ms(rejected, 99) <= REJECTED_MS, "refusals took too long")
        outcome.promise(all(b'"overloaded"' in one.content for one in rejected), "a refusal does not say why")
        outcome.promise(not others, f"{len(others)} ended with {_statuses(others)}")
    return outcome


def slow_clients(options: Options) -> Outcome:
    """500 connections that send a byte a second: others notice nothing."""
    outcome = Outcome()
    limits = "limits: {header_seconds: 5, body_seconds: 5}\n"
    with running(options.model_store, [MOVEMENT], limits) as stack:
        good = asks.healthy(stack.server, stack.archives)
        send(stack.edge, good, 8, 3)
        alone = send(stack.edge, good, 8, options.seconds)

        async def both() -> tuple[list[Seen], list[bytes]]:
            # Longer than the others, for a busy machine: each of them ends when it is told 408.
            ends = [asyncio.create_task(_trickle(stack.edge, number, options.seconds + 20)) for number in range(SLOW)]
            seen = await asend(stack.edge, good, 8, options.seconds)
            return seen, list(await asyncio.gather(*ends))

        seen, ends = asyncio.run(both())
        refused = sum(b" 408 " in end for end in ends)
        before, during = percentile_ms(alone, 99), percentile_ms(seen, 99)
        failed = [one for one in seen if not one.right]
        outcome.figures = {
            "slow connections": len(ends),
            "told 408": refused,
            "p99 ms without them": round(before, 1),
            "p99 ms beside them": round(during, 1),
            "failed": len(failed),
        }
        outcome.promise(refused == len(ends), f"only {refused} were told 408")
        outcome.promise(not failed, f"{len(failed)} others failed with {_statuses(failed)}")
        outcome.goal(during <= DISTURBED * before + 5, "others had to wait")
    return outcome


TRIALS: Mapping[str, Callable[[Options], Outcome]] = {
    "poison": poison,
    "fuzz": fuzz,
    "kills": kills,
    "deaths": deaths,
    "overload": overload,
    "slow_clients": slow_clients,
}


class _Killer(threading.Thread):
    """Kills one worker at a time, and measures how long it takes until all are READY again."""

    def __init__(self, stack: Stack, seconds: float) -> None:
        super().__init__(daemon=True)
        self.seconds_back: list[float] = []
        self._stack = stack
        self._end = time.monotonic() + seconds

    def run(self) -> None:
        time.sleep(1)
        while time.monotonic() + BACK < self._end:
            began = time.monotonic()
            before = self._ready()
            victim = random.choice(sorted(before))  # noqa: S311
            os.kill(victim, signal.SIGKILL)
            while len(now := self._ready()) < len(before) or victim in now:
                time.sleep(0.02)
            self.seconds_back.append(time.monotonic() - began)
            time.sleep(max(0.0, min(began + BETWEEN_KILLS, self._end) - time.monotonic()))

    def _ready(self) -> set[int]:
        with suppress(httpx.HTTPError, ValueError, LookupError, TypeError):
            (model,) = httpx.get(f"{self._stack.management}/models/{MOVEMENT}", trust_env=False).json()
            return {int(worker["pid"]) for worker in model["workers"] if worker["status"] == "READY"}
        return set()


async def _trickle(url: str, number: int, seconds: float) -> bytes:
    """Send a request's bytes one a second, every other time with whole headers at once; the reply, if there is one."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /predictions/{MOVEMENT} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n".encode()
    end = time.monotonic() + seconds
    reader, writer = await asyncio.open_connection(host, int(port))
    reply = asyncio.create_task(reader.read())
    try:
        if number % 2:
            writer.write(head + b"\r\n")
        for byte in head + b"X: " + b"y" * 1000:
            if reply.done() or time.monotonic() > end:
                break
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.wait([reply], timeout=1.0)
    except ConnectionError:
        pass
    finally:
        writer.close()
    with suppress(ConnectionError, TimeoutError):
        return await asyncio.wait_for(reply, 1.0)
    return b""


def _longest_silence(seen: Sequence[Seen]) -> float:
    """Seconds between two right replies, or from the last one on."""
    times = [*sorted(one.at for one in seen if one.right), max(one.at for one in seen)]
    return max(later - earlier for earlier, later in pairwise(times))


def _answers(url: str, ask: Ask) -> bool:
    """Whether it does so, sooner or later."""
    deadline = time.monotonic() + AT_LAST
    while time.monotonic() < deadline:
        if all(one.right for one in send(url, [ask], 1, 0.1)):
            return True
        time.sleep(0.1)
    return False


def _statuses(seen: list[Seen]) -> str:
    return _counted(Counter(one.status for one in seen))


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(f"{status or 'no reply'}: {count:,}" for status, count in sorted(statuses.items()))
