"""Whether a version is good enough, from the answers that it gave. Knows neither where these were seen nor when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_p99` is in milliseconds. A limit holds for so many requests at least: of fewer nobody knows."""

    max_error: float = 0.01  # share of requests
    max_p99: float | None = None
    min_requests: int = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's. `milliseconds` are the server's, whole ones as the edge has them."""

    milliseconds: int
    status: str  # `200`, `504`; over gRPC `grpc 13`
    failed: bool = False  # a fault of the version's
    refused: bool = False  # the client was told that the request was wrong


@dataclass(slots=True)
class Tally:
    """Answers, counted; what they need of memory does not grow with their number."""

    requests: int = 0
    failed: int = 0
    refused: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    milliseconds: Counter[int] = field(default_factory=Counter)

    def add(self, answer: Answer) -> None:
        self.requests += 1
        self.failed += answer.failed
        self.refused += answer.refused
        self.statuses[answer.status] += 1
        self.milliseconds[answer.milliseconds] += 1

    def slower_than(self, limit: float) -> int:
        return sum(count for milliseconds, count in self.milliseconds.items() if milliseconds > limit)

    def percentile(self, percent: float) -> int | None:
        """The least time that so many per cent of the answers kept; None where there are none."""
        wanted, seen = self.requests * percent / 100, 0
        for milliseconds, count in sorted(self.milliseconds.items()):
            seen += count
            if seen >= wanted:
                return milliseconds
        return None

    def figures(self) -> Mapping[str, Any]:
        """For reports; times in milliseconds."""
        counts = {"requests": self.requests, "failed": self.failed, "refused": self.refused}
        return counts | {"p50_ms": self.percentile(50), "p99_ms": self.percentile(99), "statuses": dict(self.statuses)}


def judge(new: Tally, old: Tally, limits: Limits) -> str:
    """Why `new` is not good enough, beside `old` at the same time; empty where nothing speaks against it so far.

    It is told at once; of fewer than `min_requests`, when the limit would be passed if all that are missing were good.
    """
    least = max(new.requests, limits.min_requests)
    said = f"{new.requests:,} requests"
    if new.failed > limits.max_error * least:
        kinds = ", ".join(f"{count:,} x {status}" for status, count in new.statuses.most_common() if status != "200")
        return f"{new.failed:,} of {said} failed, more than {100 * limits.max_error:g} % ({kinds})"
    if limits.max_p99 is not None and (slow := new.slower_than(limits.max_p99)) > 0.01 * least:
        return f"{slow:,} of {said} took over {limits.max_p99:g} ms: p99 is {new.percentile(99)} ms"
    if old.requests >= limits.min_requests:
        usual = old.refused / old.requests
        if new.refused > (usual + limits.max_error) * least:
            return f"{new.refused:,} of {said} were refused as wrong, and {usual:.1%} by the version before"
    return ""
