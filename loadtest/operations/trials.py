"""One function per trial: what an operator does to versions under load, and what clients must not notice of it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import median

from loadtest.operations import commands, traffic, variants
from loadtest.operations.commands import MODEL, NEW, OLD
from loadtest.operations.load import Load
from loadtest.outcome import Outcome
from loadtest.reliability import asks
from loadtest.reliability.stack import Stack, running
from loadtest.reliability.traffic import Ask, Seen, percentile_ms, send

TURNS = 20  # promotions and rollbacks together
SHARES = (0.05, 0.25)
WITHIN = 0.02  # of the share that was asked for
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
    with _stack(options, {OLD: variants.GOOD, NEW: variants.GOOD}) as (stack, ask), Load(stack, [ask]) as load:
        took = []
        for turn in range(TURNS):
            began = time.monotonic()
            commands.run(stack, "models", *(("rollback", MODEL) if turn % 2 else ("promote", MODEL, NEW)))
            took.append(time.monotonic() - began)
            time.sleep(max(0.0, options.seconds / 10 - took[-1]))
            default = commands.default(stack)
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
            with Load(stack, [ask]) as load:
                time.sleep(1)
                began = time.monotonic()
                code, report = commands.rollout(stack, version, "5,25,100", options.seconds)
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
            outcome.promise(
                commands.default(stack) == (NEW if good else OLD),
                f"{version}: the default is {commands.default(stack)}",
            )
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
            with commands.holding(stack, share):
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
        with Load(stack, various) as load:
            time.sleep(options.seconds)
            alone = load.stop()
        outcome.figures["p99 ms without a shadow"] = round(percentile_ms(alone, 99), 1)
        for version in ("disagrees", "hangs"):
            with Load(stack, various) as load, tempfile.TemporaryDirectory() as folder:
                code, report = commands.report(
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
            with Load(stack, [ask]) as load:
                rollout = commands.begin(stack, NEW, "50", 60, *commands.SLOWEST)
                time.sleep(3)
                began = time.monotonic()
                os.kill(commands.process(stack, victim, rollout), signal.SIGKILL)
                commands.until_served(stack, ask)
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
            outcome.promise(commands.default(stack) == OLD, f"{victim}: the default is {commands.default(stack)}")
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


@contextmanager
def _stack(options: Options, versions: Mapping[str, str]) -> Iterator[tuple[Stack, Ask]]:
    """A server with these versions of MODEL, the first being the default, and a request with its answer."""
    with tempfile.TemporaryDirectory(prefix="operations-") as scratch:
        store = Path(scratch)
        for number, (version, body) in enumerate(versions.items()):
            variants.make(options.model_store / f"{MODEL}.mar", store / f"{number}-{MODEL}.mar", version, body)
        with running(store, sorted(path.stem for path in store.iterdir())) as stack:
            yield stack, asks.healthy(stack.server, stack.archives)[0]


def _seen(seen: Sequence[Seen]) -> dict[str, float | int | str]:
    failed = sum(not one.right for one in seen)
    return {"requests": len(seen), "failed": failed, "p99 ms": round(percentile_ms(seen, 99), 1)}


def _none_failed(outcome: Outcome, seen: Sequence[Seen]) -> None:
    failed = Counter(one.status for one in seen if not one.right)
    outcome.promise(not failed, f"{failed.total()} of {len(seen)} requests failed: {dict(failed)}")
