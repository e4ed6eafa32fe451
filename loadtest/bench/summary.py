"""Samples of several rounds -> medians and spreads; the order in which servers take their turns."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = ("rps", "p50_ms", "p99_ms", "errors")
_SUMS = ("checked", "wrong")
_CHOICES = ("batch", "batch_without_decoding", "processes")  # of the limit; between two of them is none


def rotated(names: Sequence[str], number: int) -> list[str]:
    """The order of round `number`, from 0: each round another server begins, so that none is always first."""
    shift = number % len(names)
    return [*names[shift:], *names[:shift]]


def summarize(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one server and workload, a sample per round: medians, and what lies between the least and the greatest.

    Numbers of answers that were checked are added up, and of batch sizes the most frequent is taken. Whatever else a
    sample has counts by its median too.
    """
    if not samples:
        return {"error": "was not measured"}
    summary: dict[str, Any] = {"rounds": len(samples)}
    spread = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        if key in _SUMS:
            summary[key] = sum(values)
        elif key == "saturated":
            summary[key] = any(values)
        elif key == "first_wrong":
            if said := next((text for text in values if text), ""):
                summary[key] = said
        elif key in _CHOICES:
            summary[key] = statistics.mode(values)
        else:
            summary[key] = _rounded(statistics.median(values))
            if key in FIGURES:
                spread[key] = [_rounded(min(values)), _rounded(max(values))]
    return summary | {"spread": spread}


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
