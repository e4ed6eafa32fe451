"""Named numbers of a request -> the row that a network takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InvalidContentError
from handlers.payload import names as quoted

LARGEST = float(np.finfo(np.float32).max)
_NUMBERS = frozenset({int, float})  # by exact type: a bool is an int too


class FeatureReader:
    """Takes `{name: value}` with every name, or `[value, ...]` in their order."""

    def __init__(self, names: Sequence[str]) -> None:
        self._order = tuple(names)
        self._names = frozenset(names)
        self._pick = _in_order(names)

    def read(self, given: Any) -> NDArray[np.float32]:
        """(features,). Raises InvalidContentError."""
        values = given
        if not isinstance(given, list):
            try:
                values = self._pick(given)
            except (KeyError, TypeError):
                raise self._wrong(given) from None
        if len(given) != len(self._order) or not _NUMBERS.issuperset(map(type, values)):
            raise self._wrong(given)
        if not (max(map(abs, values)) <= LARGEST and math.isfinite(sum(values))):  # max passes over a NaN
            raise self._wrong(given)
        return np.array(values, np.float32)

    def _wrong(self, given: Any) -> InvalidContentError:
        """What is wrong with features, where something is."""
        if isinstance(given, list):
            if len(given) != len(self._order):
                return InvalidContentError(f"'features' has {len(given):,} numbers; the model takes {len(self._order)}")
            given = dict(zip(self._order, given, strict=True))
        if not isinstance(given, Mapping):
            return InvalidContentError("'features' must be an object of names and numbers, or a list of numbers")
        if unknown := given.keys() - self._names:
            return InvalidContentError(f"unknown features {quoted(unknown)}")
        if missing := self._names - given.keys():
            return InvalidContentError(f"'features' lacks {quoted(missing)}: the model takes all of them")
        wrong = next(name for name in self._order if not _is_float32(given[name]))
        return InvalidContentError(f"the feature {wrong!r} must be a finite number of float32's range")


def _in_order(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Picks these values out of a mapping."""
    pick = itemgetter(*names)
    return pick if len(names) > 1 else lambda given: (pick(given),)


def _is_float32(value: Any) -> bool:
    return type(value) in _NUMBERS and abs(value) <= LARGEST
