"""One function per trial: what an operator does to versions under load, and what clients must not notice of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from loadtest.errors import LoadTestError
from loadtest.operations import traffic, variants
from loadtest.outcome import Outcome
from loadtest.reliability import asks
from loadtest.reliability.stack import Stack, running
from loadtest.reliability.traffic import Ask, Seen, percentile_ms, send

MODEL = "drag_pattern"
OLD, NEW = "1.0", "2.0"
TURNS = 20  # promotions and rollbacks together
REST_CLIENTS, GRPC_CLIENTS = 6, 2
PAUSE = 0.005  # seconds between a reply and the client's next request: about half of what two cores can do
SHARES = (0.05, 0.25)
WITHIN = 0.02  # of the share that was asked for
P99 = 100  # ms
BACK = 10.0  # seconds until somebody who died is replaced
DISTURBED = 1.5  # times the p99 without a shadow, and 5 ms more


@dataclass(frozen=True, slots=True)
class Options:
    """`seconds` is how long a step of a rollout lasts, `requests` how many the split is counted over."""

    model_store: Path
    seconds: float
    requests: int


def promotions(options: Options) -> Outcome:
    """Promoted and rolled back in turn, under REST and gRPC: no request fails."""
    outcome = Outcome()
    with _stack(options, {OLD: variants.GOOD, NEW: variants.GOOD}) as (stack, ask), _Load(stack, [ask]) as load:
        took = []
        for turn in range(TURNS):
            began = time.monotonic()
            _run(stack, "models", *(("rollback", MODEL) if turn % 2 else ("promote", MODEL, NEW)))
            took.append(time.monotonic() - began)
            time.sleep(max(0.0, options.seconds / 10 - took[-1]))
            default = _default(stack)
            outcome.promise(default == (OLD if turn % 2 else NEW), f"after turn {turn} the default is {default}")
        seen = load.stop()
        outcome.figures = {"promotions and rollbacks": TURNS, **_seen(seen)}
        outcome.figures |= {"median turn s": round(median(took), 2), "slowest turn s": round(max(took), 2)}
        _none_failed(outcome, seen)
    return outcome


def canaries(options: Options) -> Outcome:
    """Versions that raise errors, are slow or hang are rolled back by themselves; a good one becomes the default."""
    outcome = Outcome()
    faults = {"errors": variants.ERRORS, "slow": variants.SLOW, "hangs": variants.HANGS}
    with _stack(options, {OLD: variants.GOOD, NEW: variants.GOOD, **faults}) as (stack, ask):
        for version in (*faults, NEW):
            with _Load(stack, [ask]) as load:
                time.sleep(1)
                began = time.monotonic()
                code, report = _rollout(stack, options, version, "5,25,100")
                took = time.monotonic() - began
                seen = load.stop()
            share = report["steps"][-1]["share"] if report["steps"] else 0.0
            candidates = sum(step["new"]["requests"] for step in report["steps"])
            outcome.figures |= {
                f"{version}: says": report["reason"] or "promoted",
                f"{version}: after s": round(took, 1),
                f"{version}: at a share of": f"{share:.0%}",
                f"{version}: requests": f"{len(seen):,}, of which {candidates:,} went to it",
                f"{version}: clients that noticed": sum(not one.right for one in seen),
            }
            good = version == NEW
            outcome.promise(code == (0 if good else 1), f"{version}: exit code {code}")
            outcome.promise(_default(stack) == (NEW if good else OLD), f"{version}: the default is {_default(stack)}")
            outcome.promise(good or len(report["steps"]) == 1, f"{version}: only noticed at {share:.0%}")
            if good:
                _none_failed(outcome, seen)
    return outcome


def split(options: Options) -> Outcome:
    """A share of the requests, over REST and gRPC, with and without sessions; a session sees one version."""
    outcome = Outcome()
    with _stack(options, {OLD: variants.MARKED, NEW: variants.MARKED}) as (stack, ask):
        sessions = [f"user-{number}" for number in range(options.requests)]
        seen: dict[str, str] = {}
        for share in SHARES:
            with _holding(stack, share):
                for protocol, ways in (("REST", (stack.edge, traffic.rest_versions)),
                                       ("gRPC", (stack.grpc, traffic.grpc_versions))):  # fmt: skip
                    address, versions = ways
                    for kind, names in (("random", [""] * options.requests), ("by session", sessions)):
                        found = versions(address, ask, names)
                        counts = Counter(found)
                        got = counts[NEW] / len(found)
                        where = f"{share:.0%} asked for, {protocol}, {kind}"
                        outcome.figures[where] = f"{got:.2%} of {len(found):,}"
                        outcome.promise(counts[traffic.FAILED] == 0, f"{where}: {counts[traffic.FAILED]} failed")
                        chance = 4 * sqrt(share * (1 - share) / len(found))  # what so few may be off by
                        outcome.promise(abs(got - share) <= max(WITHIN, chance), f"{where}: {got:.2%}")
                        if kind == "by session":
                            now = dict(zip(names, found, strict=True))
                            left = [name for name, version in seen.items() if version == NEW and now[name] != NEW]
                            outcome.promise(not left, f"{where}: {len(left)} sessions went back to the old version")
                            seen = now
        again = traffic.rest_versions(stack.edge, ask, ["user-1"])
        outcome.promise(again == [OLD], "after the rollout a session still has the candidate")
    return outcome


def shadow(options: Options) -> Outcome:
    """A version that disagrees is reported, one that hangs too, and no client notices either."""
    outcome = Outcome()
    bodies = {OLD: variants.GOOD, "disagrees": variants.DISAGREES, "hangs": variants.HANGS}
    with _stack(options, bodies) as (stack, ask):
        various = [replace(ask, body=ask.body + b" " * number) for number in range(200)]
        with _Load(stack, various) as load:
            time.sleep(options.seconds)
            alone = load.stop()
        outcome.figures["p99 ms without a shadow"] = round(percentile_ms(alone, 99), 1)
        for version in ("disagrees", "hangs"):
            with _Load(stack, various) as load, tempfile.TemporaryDirectory() as folder:
                code, report = _json(
                    stack,
                    "rollout",
                    MODEL,
                    "--to",
                    version,
                    "--shadow",
                    f"{options.seconds:g}s",
                    "--report",
                    f"{folder}/report",
                )
                seen = load.stop()
            p99 = percentile_ms(seen, 99)
            outcome.figures |= {
                f"{version}: says": str(report["shadow"]["verdict"]),
                f"{version}: clients' requests": f"{len(seen):,}, failed {sum(not one.right for one in seen)}",
                f"{version}: p99 ms beside it": round(p99, 1),
            }
            outcome.promise(code == 1, f"{version}: exit code {code}")
            outcome.goal(p99 <= DISTURBED * percentile_ms(alone, 99) + 5, f"{version}: clients had to wait")
            _none_failed(outcome, seen)
    return outcome


def deaths(options: Options) -> Outcome:
    """The edge, TorchServe and the rollout are killed in the middle of a canary: the old version serves soon again."""
    outcome = Outcome()
    with _stack(options, {OLD: variants.GOOD, NEW: variants.GOOD}) as (stack, ask):
        for victim in ("rollout", "edge", "TorchServe"):
            with _Load(stack, [ask]) as load:
                rollout = _begin(stack, options, NEW, "50", hold=60)
                time.sleep(3)
                began = time.monotonic()
                os.kill(_process(stack, victim, rollout), signal.SIGKILL)
                _until_served(stack, ask)
                back = time.monotonic() - began
                time.sleep(1)
                if victim == "edge":  # it has come back, and the rollout goes on
                    outcome.promise(rollout.poll() is None, f"{victim}: the rollout ended")
                    rollout.send_signal(signal.SIGINT)
                rollout.communicate(timeout=BACK)
                time.sleep(options.seconds / 10)
                seen = load.stop()
            after = send(stack.edge, [ask], 2, 2)
            outcome.figures |= {
                f"{victim}: served again after s": round(back, 2),
                f"{victim}: clients that noticed": f"{sum(not one.right for one in seen)} of {len(seen):,}",
            }
            outcome.promise(_default(stack) == OLD, f"{victim}: the default is {_default(stack)}")
            outcome.promise(all(one.right for one in after), f"{victim}: it does not serve as before")
            outcome.goal(back <= BACK, f"{victim}: it took {back:.1f} s")
    return outcome


TRIALS: Mapping[str, Callable[[Options], Outcome]] = {
    "promotions": promotions,
    "canaries": canaries,
    "split": split,
    "shadow": shadow,
    "deaths": deaths,
}


class _Load:
    """Steady clients over REST and gRPC. A context manager."""

    def __init__(self, stack: Stack, wanted: Sequence[Ask]) -> None:
        self._seen: list[Seen] = []
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, args=(lambda: send(stack.edge, wanted, REST_CLIENTS, 1, PAUSE),)),
            threading.Thread(
                target=self._loop, args=(lambda: traffic.send_grpc(stack.grpc, wanted[0], GRPC_CLIENTS, 1, PAUSE),)
            ),
        ]

    def __enter__(self) -> _Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> list[Seen]:
        """What was seen."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        return self._seen

    def _loop(self, one_second: Callable[[], list[Seen]]) -> None:
        while not self._end.is_set():
            self._seen += one_second()


@contextmanager
def _stack(options: Options, versions: Mapping[str, str]) -> Iterator[tuple[Stack, Ask]]:
    """A server with these versions of MODEL, the first being the default, and a request with its answer."""
    with tempfile.TemporaryDirectory(prefix="operations-") as scratch:
        store = Path(scratch)
        for number, (version, body) in enumerate(versions.items()):
            variants.make(options.model_store / f"{MODEL}.mar", store / f"{number}-{MODEL}.mar", version, body)
        with running(store, sorted(path.stem for path in store.iterdir())) as stack:
            yield stack, asks.healthy(stack.server, stack.archives)[0]


@contextmanager
def _holding(stack: Stack, share: float) -> Iterator[None]:
    """The new version has that share until the end."""
    rollout = _begin(stack, None, NEW, f"{100 * share:g}", hold=600)
    try:
        time.sleep(2)
        yield
    finally:
        rollout.send_signal(signal.SIGINT)
        rollout.communicate(timeout=30)


def _begin(stack: Stack, options: Options | None, version: str, steps: str, hold: float) -> subprocess.Popen[str]:
    port, edge_port = stack.ports
    limits = ["--max-p99", f"{P99}ms"] if options else []
    return stack.start(
        "rollout", MODEL, "--to", version, "--canary", steps, "--hold", f"{hold:g}s", "--max-error", "1%", *limits,
        "--port", str(port), "--edge-port", str(edge_port), "--json",
    )  # fmt: skip


def _rollout(stack: Stack, options: Options, version: str, steps: str) -> tuple[int, dict[str, Any]]:
    rollout = _begin(stack, options, version, steps, options.seconds)
    return _read(rollout, *rollout.communicate(timeout=40 * options.seconds))


def _json(stack: Stack, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = stack.start(*arguments, "--port", str(stack.ports[0]), "--json")
    return _read(command, *command.communicate(timeout=600))


def _read(command: subprocess.Popen[str], output: str, errors: str) -> tuple[int, dict[str, Any]]:
    try:
        return command.returncode, json.loads(output)
    except ValueError:
        raise LoadTestError(f"it says no JSON but {(errors.strip() or output)!r}") from None


def _run(stack: Stack, *arguments: str) -> None:
    """Raises LoadTestError where the command does not do it."""
    command = stack.start(*arguments, "--port", str(stack.ports[0]))
    _, errors = command.communicate(timeout=60)
    if command.returncode:
        raise LoadTestError(f"{' '.join(arguments)}: {errors.strip()}")


def _default(stack: Stack) -> str:
    (found,) = httpx.get(f"{stack.management}/models/{MODEL}", trust_env=False, timeout=10).json()
    return str(found["modelVersion"])


def _process(stack: Stack, victim: str, rollout: subprocess.Popen[str]) -> int:
    """HAProxy's worker, TorchServe's front end, or the command."""
    if victim == "rollout":
        return rollout.pid
    tree, name = (stack.edge_tree, "haproxy") if victim == "edge" else (stack.server_tree, "java")
    return max(int(process.pid) for process in tree.members() if process.name() == name)


def _until_served(stack: Stack, ask: Ask) -> None:
    deadline = time.monotonic() + 60
    time.sleep(0.2)
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            reply = httpx.post(f"{stack.edge}{ask.path}", content=ask.body, headers=ask.headers, trust_env=False)
            if ask.is_right(reply.status_code, reply.content):
                return
        time.sleep(0.05)
    raise LoadTestError("it did not serve again within a minute")


def _seen(seen: Sequence[Seen]) -> dict[str, float | int | str]:
    failed = sum(not one.right for one in seen)
    return {"requests": len(seen), "failed": failed, "p99 ms": round(percentile_ms(seen, 99), 1)}


def _none_failed(outcome: Outcome, seen: Sequence[Seen]) -> None:
    failed = Counter(one.status for one in seen if not one.right)
    outcome.promise(not failed, f"{failed.total()} of {len(seen)} requests failed: {dict(failed)}")
