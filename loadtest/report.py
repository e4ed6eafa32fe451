"""The figures of a run, what limits they break, and how they are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_SHOWN_REASONS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One model's figures; p50, p95 and p99 in milliseconds, as Locust rounds them (to two digits from 100 ms on)."""

    name: str
    requests: int
    failures: int
    rate: float  # requests per second, failures among them
    p50: float
    p95: float
    p99: float

    @property
    def error_rate(self) -> float:
        return self.failures / self.requests if self.requests else 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Summary:
    """One row per model that was asked; `reasons` of failures as (how often, model, message), most frequent first.

    `saturated`: Locust itself ran out of CPU, so that the server may be faster than measured.
    """

    rows: tuple[Row, ...]
    reasons: tuple[tuple[int, str, str], ...] = ()
    saturated: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """`p99` in milliseconds, or None for any; `error_rate` from 0 to 1."""

    p99: float | None
    error_rate: float


def read_summary(path: Path) -> Summary:
    data = json.loads(path.read_text())
    rows = tuple(Row(**row) for row in data["rows"])
    return Summary(rows, tuple((n, name, text) for n, name, text in data["reasons"]), data["saturated"])


def broken_limits(summary: Summary, limits: Limits, models: Sequence[str]) -> list[str]:
    """One line per limit that a model breaks; a model without a single request breaks them all."""
    rows = {row.name: row for row in summary.rows}
    lines = []
    for name in models:
        row = rows.get(name)
        if row is None or row.requests == 0:
            lines.append(f"{name}: no request was finished")
            continue
        if limits.p99 is not None and row.p99 > limits.p99:
            lines.append(f"{name}: p99 is {row.p99:g} ms, at most {limits.p99:g} ms allowed")
        if row.error_rate > limits.error_rate:
            lines.append(
                f"{name}: error rate is {row.error_rate:.4g} ({row.failures:,} of {row.requests:,}), "
                f"at most {limits.error_rate:g} allowed"
            )
    return lines


def format_summary(summary: Summary) -> str:
    """A table for people, and why requests failed."""
    width = max([len(row.name) for row in summary.rows] + [5])
    lines = [f"{'model':<{width}}  requests    errors     req/s  p50 ms  p95 ms  p99 ms"]
    lines += [
        f"{row.name:<{width}}  {row.requests:>8,}  {row.failures:>8,}  {row.rate:>8,.1f}"
        f"  {row.p50:>6,.0f}  {row.p95:>6,.0f}  {row.p99:>6,.0f}"
        for row in summary.rows
    ]
    if summary.reasons:
        lines += ["", "errors"]
        lines += [f"{count:>8,}  {name}: {text}" for count, name, text in summary.reasons[:_SHOWN_REASONS]]
    if len(summary.reasons) > _SHOWN_REASONS:
        lines.append(f"          and {len(summary.reasons) - _SHOWN_REASONS} other kinds, see the report")
    if summary.saturated:
        lines += ["", "note: Locust took over 90% of its core: the server may be faster than this"]
    return "\n".join(lines)
