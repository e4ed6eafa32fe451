"""Rows of different lengths as flat arrays: what numpy does with the rows of a table, for rows that are no table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Rows:
    """Where rows lie in a flat array: one behind the other, none of them empty."""

    def __init__(self, lengths: NDArray[np.int64]) -> None:
        self.lengths = lengths
        self.ends = lengths.cumsum()  # one past the last of each row
        self.starts = self.ends - lengths
        self._inside = np.ones(self.ends[-1] - 1, bool)  # is the pair (i, i + 1) of one row?
        self._inside[self.ends[:-1] - 1] = False

    def shorter(self) -> Rows:
        """The rows of `diff` and `pairs`."""
        return Rows(self.lengths - 1)

    def spread(self, per_row: NDArray[Any]) -> NDArray[Any]:
        return per_row.repeat(self.lengths)

    def pairs(self, flat: Floats) -> tuple[Floats, Floats]:
        """Each element that has a next one in its row, and the next one."""
        return flat[:-1][self._inside], flat[1:][self._inside]

    def triples(self, flat: Floats) -> tuple[Floats, Floats, Floats, Rows]:
        """Each element that has two next ones in its row, those two, and the rows they form."""
        inside = self._inside[:-1] & self._inside[1:]
        return flat[:-2][inside], flat[1:-1][inside], flat[2:][inside], Rows(self.lengths - 2)

    def diff(self, flat: Floats) -> Floats:
        first, second = self.pairs(flat)
        return second - first

    def sum(self, flat: NDArray[Any]) -> Floats:
        total: Floats = np.add.reduceat(flat, self.starts, dtype=np.float64)
        return total

    def mean(self, flat: NDArray[Any]) -> Floats:
        mean: Floats = self.sum(flat) / self.lengths
        return mean

    def max(self, flat: Floats) -> Floats:
        highest: Floats = np.maximum.reduceat(flat, self.starts)
        return highest

    def std(self, flat: Floats) -> Floats:
        return np.sqrt(np.maximum(self.mean(flat**2) - self.mean(flat) ** 2, 0))

    def first(self, is_it: NDArray[np.bool_]) -> Floats:
        """How many elements of each row come before the first True; all, where there is none."""
        index = np.where(is_it, np.arange(len(is_it)), len(is_it))
        return np.asarray(np.minimum(np.minimum.reduceat(index, self.starts), self.ends) - self.starts)

    def ordered(self, flat: Floats) -> Floats:
        """Every row sorted."""
        row = np.arange(len(self.lengths)).repeat(self.lengths)
        return flat[np.lexsort((flat, row))]

    def correlation(self, a: Floats, b: Floats, weight: Floats | None = None) -> tuple[Floats, Floats]:
        """Pearson's correlation, and the slope of b over a; 0 where a or b does not vary. `weight` is 0 or 1."""
        w = np.ones_like(a) if weight is None else weight
        n = np.maximum(self.sum(w), 1)
        a, size_of_a = self._centred(a, w, n)
        b, size_of_b = self._centred(b, w, n)
        ab = self.sum(a * b) * (size_of_b > 0)
        return ratio(ab, np.sqrt(size_of_a * size_of_b)), ratio(ab, size_of_a)

    def _centred(self, flat: Floats, w: Floats, n: Floats) -> tuple[Floats, Floats]:
        """What is left without the mean, and its sum of squares; 0 where it is no more than the mean's rounding."""
        centred = (flat - self.spread(self.sum(flat * w) / n)) * w
        squares = self.sum(centred**2)
        return centred, np.where(squares > 1e-24 * self.sum((flat * w) ** 2), squares, 0)

    def memory(self, flat: Floats) -> Floats:
        """Correlation of each element with the next one."""
        return self.shorter().correlation(*self.pairs(flat))[0]


def ratio(a: Floats, b: Floats) -> Floats:
    """a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=b != 0)
