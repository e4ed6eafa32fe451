"""A request's JSON object -> the `Trajectory` in it.

    {"points": [{"x": 12.5, "y": 80, "t": 1699.2, "type": "move"}, ...], "viewport": {"width": 1280, "height": 720}}
    {"x": [12.5, ...], "y": [80, ...], "t": [1699.2, ...], "pointer": "touch"}

The type of a point and the viewport are what browsers have at hand; they are checked, and no feature needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from handlers.errors import InvalidContentError
from handlers.payload import names
from handlers.trajectory import MAX_POINTS, MIN_POINTS, POINTERS, Trajectory

AXES = ("x", "y", "t")
TYPES = ("down", "move", "up")
MAX_POSITION = 100_000.0  # px, either way
MAX_DURATION = 120_000.0  # ms

_POSITION, _TYPED = itemgetter(*AXES), itemgetter(*AXES, "type")
_KNOWN = frozenset({"points", *AXES, "pointer", "viewport"})
_NUMBERS = frozenset({int, float})  # by exact type: a bool is an int too
_TYPES = frozenset(TYPES)


def read(instance: Mapping[str, Any]) -> Trajectory:
    """Positions in px and times in ms, float64 (points,). Raises InvalidContentError."""
    if not instance.keys() <= _KNOWN:
        raise InvalidContentError(f"unknown fields {names(instance.keys() - _KNOWN)}; known: {names(_KNOWN)}")
    if "viewport" in instance:
        _check_viewport(instance["viewport"])
    columns = _columns(instance)
    if len(columns[0]) < MIN_POINTS or len(columns[0]) > MAX_POINTS:
        raise InvalidContentError(
            f"the movement has {len(columns[0]):,} points; from {MIN_POINTS} to {MAX_POINTS:,} are accepted"
        )
    if not all(_NUMBERS.issuperset(map(type, column)) for column in columns):
        raise _wrong_number(instance, columns, lambda _, value: type(value) in _NUMBERS)
    try:
        table = np.array(columns, np.float64)
    except OverflowError:  # a whole number of hundreds of digits
        table = np.full((3, 1), np.nan)
    # A NaN is in no range. TorchServe reads application/json by itself, and lets it through.
    if not (np.abs(table[:2]).max() <= MAX_POSITION and np.isfinite(table[2]).all()):
        raise _wrong_number(instance, columns, _in_range)
    x, y, t = table
    if (t[1:] < t[:-1]).any():
        index = int((t[1:] < t[:-1]).argmax()) + 1
        raise InvalidContentError(f"time runs backwards at {_place(instance, index, 't')}: send the points in order")
    duration = float(t[-1]) - float(t[0])
    if duration > MAX_DURATION:
        raise InvalidContentError(
            f"the movement lasts {duration:.6g} ms; at most {MAX_DURATION:,.0f} are accepted: send the last drag only"
        )
    return Trajectory(x, y, t, read_pointer(instance))


def read_pointer(instance: Mapping[str, Any]) -> str:
    """What was moved, one of POINTERS. Raises InvalidContentError."""
    pointer = instance.get("pointer", POINTERS[0])
    if pointer not in POINTERS:
        raise InvalidContentError(f"'pointer' must be one of {', '.join(POINTERS)}")
    return str(pointer)


def _columns(instance: Mapping[str, Any]) -> list[list[Any]]:
    """x, y and t of both forms as lists of one length; what is in them is still unknown."""
    compact = [axis for axis in AXES if axis in instance]
    if "points" not in instance:
        if len(compact) < len(AXES):
            raise InvalidContentError(
                """expected {"points": [{"x": px, "y": px, "t": ms}, ...]}, or {"x": [...], "y": [...], "t": [...]}"""
            )
        columns = [instance[axis] for axis in AXES]
        if not all(isinstance(column, list) for column in columns):
            raise InvalidContentError("'x', 'y' and 't' must be lists of numbers")
        if len(set(map(len, columns))) > 1:
            raise InvalidContentError("'x', 'y' and 't' must have the same length")
        return columns
    if compact:
        raise InvalidContentError(f"send the movement once: there are 'points', and {names(compact)} beside them")
    points = instance["points"]
    if not isinstance(points, list):
        raise InvalidContentError("""'points' must be a list of {"x": px, "y": px, "t": ms}""")
    try:
        rows = zip(*map(_TYPED, points), strict=True)
        *columns, types = [list(column) for column in rows] or [[], [], [], []]
    except (KeyError, TypeError):  # without types perhaps
        return _untyped_columns(points)
    if not _are_types(types):
        raise _wrong_point(points)
    return columns


def _untyped_columns(points: list[Any]) -> list[list[Any]]:
    try:
        columns = [list(column) for column in zip(*map(_POSITION, points), strict=True)]
        typed = _are_types([point.get("type", "move") for point in points])
    except (KeyError, TypeError, AttributeError):
        raise _wrong_point(points) from None
    if not typed:
        raise _wrong_point(points)
    return columns


def _are_types(values: list[Any]) -> bool:
    try:
        return _TYPES.issuperset(values)
    except TypeError:  # a list, say, which no set holds
        return False


def _wrong_point(points: list[Any]) -> InvalidContentError:
    """For the first that is no object, lacks a number or has a wrong type; one there is."""
    index = 0
    for index, point in enumerate(points):
        if not isinstance(point, dict):
            return InvalidContentError(f"points[{index}] must be an object with x, y and t")
        if missing := [axis for axis in AXES if axis not in point]:
            return InvalidContentError(f"points[{index}] lacks {names(missing)}")
        if point.get("type", "move") not in TYPES:
            break
    return InvalidContentError(f"points[{index}].type must be one of {', '.join(TYPES)}")


def _wrong_number(
    instance: Mapping[str, Any], columns: list[list[Any]], is_right: Callable[[str, Any], bool]
) -> InvalidContentError:
    index, axis = next(
        (index, axis)
        for index, point in enumerate(zip(*columns, strict=True))
        for axis, value in zip(AXES, point, strict=True)
        if not is_right(axis, value)
    )
    range_ = "in ms" if axis == "t" else f"from -{MAX_POSITION:,.0f} to {MAX_POSITION:,.0f} px"
    return InvalidContentError(f"{_place(instance, index, axis)} must be a finite number {range_}")


def _in_range(axis: str, value: float) -> bool:
    # Of Python, not of numpy: that would have to make a float of the value first.
    return abs(value) <= (sys.float_info.max if axis == "t" else MAX_POSITION)


def _place(instance: Mapping[str, Any], index: int, axis: str) -> str:
    return f"points[{index}].{axis}" if "points" in instance else f"{axis}[{index}]"


def _check_viewport(viewport: Any) -> None:
    sides: list[Any] = [viewport.get("width"), viewport.get("height")] if isinstance(viewport, dict) else [None]
    if not all(type(side) in _NUMBERS and 0 < side <= MAX_POSITION for side in sides):
        raise InvalidContentError("""'viewport' must be {"width": px, "height": px}, positive numbers""")
