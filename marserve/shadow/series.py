"""Many numbers in little memory: their mean and largest, and percentiles of as many as are kept."""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass

import numpy as np

KEPT = 50_000


@dataclass(frozen=True, slots=True)
class Summary:
    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class Series:
    def __init__(self) -> None:
        self.kept = array("d")  # all, and from `KEPT` on a random sample (reservoir sampling, Vitter's algorithm R)
        self._count = 0
        self._sum = self._max = 0.0
        self._random = random.Random(0)  # noqa: S311

    def add(self, value: float) -> None:
        """Not negative."""
        self._count += 1
        self._sum += value
        self._max = max(self._max, value)
        if len(self.kept) < KEPT:
            self.kept.append(value)
        elif (place := self._random.randrange(self._count)) < KEPT:
            self.kept[place] = value

    def summary(self) -> Summary | None:
        """None without a number."""
        if not self._count:
            return None
        p50, p95, p99 = (float(value) for value in np.percentile(self.kept, (50, 95, 99)))
        return Summary(self._count, self._sum / self._count, p50, p95, p99, self._max)
