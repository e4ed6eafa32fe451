"""A request's movement: exact where it is right, and a reason where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import points
from handlers.errors import InvalidContentError
from handlers.trajectory import MAX_POINTS, MIN_POINTS, POINTERS, Trajectory, features

COUNT = 10


def compact(count: int = COUNT) -> dict[str, Any]:
    steps = range(count)
    return {"x": [0.5 * i for i in steps], "y": [-i for i in steps], "t": [1e12 + i for i in steps]}


def listed(count: int = COUNT) -> dict[str, Any]:
    flat = compact(count)
    rows = zip(*(flat[axis] for axis in points.AXES), strict=True)
    return {"points": [dict(zip(points.AXES, row, strict=True)) for row in rows]}


@pytest.mark.parametrize("form", [compact, listed])
@pytest.mark.parametrize("count", [MIN_POINTS, COUNT, MAX_POINTS])
def test_both_forms(form: Callable[[int], dict[str, Any]], count: int) -> None:
    found = points.read(form(count))
    for axis in points.AXES:
        column = getattr(found, axis)
        assert column.dtype == np.float64
        assert column.tolist() == compact(count)[axis]
    assert found.pointer == "mouse"


def test_what_browsers_add() -> None:
    instance = listed() | {"viewport": {"width": 1280, "height": 719.5, "scale": 2}, "pointer": "touch"}
    kinds = ["down", *["move"] * (COUNT - 2), "up"]
    instance["points"] = [
        point | {"type": kind, "pressure": None, "id": "a"}
        for point, kind in zip(instance["points"], kinds, strict=True)
    ]
    found = points.read(instance)
    assert found.pointer == "touch"
    np.testing.assert_array_equal(found.x, points.read(listed()).x)


def test_equal_times_and_extremes_are_fine() -> None:
    still = {"x": [1e5, -1e5] * 4, "y": [0] * 8, "t": [1e300] * 8}
    assert points.read(still).t.tolist() == [1e300] * 8
    longest = {"x": [0] * 8, "y": [0] * 8, "t": [-1] * 7 + [119_999]}
    assert points.read(longest).t[-1] == 119_999


def changed(index: int, **values: Any) -> dict[str, Any]:
    instance = listed()
    instance["points"][index] |= values
    return instance


def without(axis: str) -> dict[str, Any]:
    instance = listed()
    del instance["points"][4][axis]
    return instance


def replaced(index: int, point: Any) -> dict[str, Any]:
    instance = listed()
    instance["points"][index] = point
    return instance


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({}, "expected {"),
        ({"pointer": "mouse"}, "expected {"),
        ({"x": [1] * 9, "y": [1] * 9}, "expected {"),
        (listed(MIN_POINTS - 1), "has 7 points; from 8 to 5,000"),
        (compact(MIN_POINTS - 1), "has 7 points"),
        (compact(MAX_POINTS + 1), "has 5,001 points"),
        ({"points": []}, "has 0 points"),
        ({"points": None}, "'points' must be a list"),
        ({"points": {"x": 1}}, "'points' must be a list"),
        (compact() | {"x": "1234567890"}, "must be lists of numbers"),
        (compact() | {"x": None}, "must be lists of numbers"),
        (compact() | {"x": [1] * 9}, "must have the same length"),
        (compact() | listed(), "there are 'points', and 't', 'x', 'y' beside them"),
        (listed() | {"t": [1]}, "there are 'points', and 't' beside them"),
        (listed() | {"z": 1, "data": "AA=="}, "unknown fields 'data', 'z'; known: 'pointer', 'points'"),
        (replaced(3, None), "points[3] must be an object"),
        (replaced(3, [1, 2, 3]), "points[3] must be an object"),
        (replaced(3, "xyt"), "points[3] must be an object"),
        (without("x"), "points[4] lacks 'x'"),
        (without("t"), "points[4] lacks 't'"),
        (changed(2, type="drag"), "points[2].type must be one of down, move, up"),
        (changed(2, type=None), "points[2].type must be one of"),
        (changed(2, type=["up"]), "points[2].type must be one of"),
        (changed(5, x=True), "points[5].x must be a finite number from -100,000 to 100,000 px"),
        (changed(5, x="1"), "points[5].x must be"),
        (changed(5, y=None), "points[5].y must be"),
        (changed(5, y=[1]), "points[5].y must be"),
        (changed(5, y=math.nan), "points[5].y must be"),
        (changed(5, x=-math.inf), "points[5].x must be"),
        (changed(5, x=100_000.1), "points[5].x must be"),
        (changed(5, y=-100_001), "points[5].y must be"),
        (changed(5, y=10**400), "points[5].y must be"),
        (changed(5, t=False), "points[5].t must be a finite number in ms"),
        (changed(5, t=math.nan), "points[5].t must be"),
        (changed(9, t=math.inf), "points[9].t must be"),
        (changed(9, t=10**400), "points[9].t must be"),
        (changed(5, t=0), "time runs backwards at points[5].t"),
        (changed(0, t=1e12 + 1.5), "time runs backwards at points[1].t"),
        (changed(9, t=1e12 + 120_001), "lasts 120001 ms; at most 120,000 are accepted"),
        (changed(9, t=1.7e308), "lasts 1.7e+308 ms"),
        ({"x": [0] * 8, "y": [0] * 8, "t": [-1.7e308] * 7 + [1.7e308]}, "lasts inf ms"),
        (compact() | {"y": [0] * 9 + [math.nan]}, "y[9] must be"),
        (compact() | {"t": [5, 4] + [6] * 8}, "time runs backwards at t[1]"),
        (listed() | {"pointer": "pen"}, "'pointer' must be one of mouse, touch"),
        (listed() | {"pointer": ["mouse"]}, "'pointer' must be"),
        (listed() | {"pointer": None}, "'pointer' must be"),
        (listed() | {"viewport": None}, "'viewport' must be"),
        (listed() | {"viewport": [1, 2]}, "'viewport' must be"),
        (listed() | {"viewport": {"width": 5}}, "'viewport' must be"),
        (listed() | {"viewport": {"width": 5, "height": True}}, "'viewport' must be"),
        (listed() | {"viewport": {"width": 5, "height": 0}}, "'viewport' must be"),
        (listed() | {"viewport": {"width": 5, "height": math.nan}}, "'viewport' must be"),
        (listed() | {"viewport": {"width": 10**400, "height": 5}}, "'viewport' must be"),
    ],
)
def test_what_is_wrong_and_where(instance: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidContentError) as caught:
        points.read(instance)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_message_repeats_little_of_what_came() -> None:
    with pytest.raises(InvalidContentError) as caught:
        points.read({str(index) * 1000: 1 for index in range(1000)})
    assert len(str(caught.value)) < 500


NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, True, None, "1"])
ANY = st.recursive(
    NUMBERS | st.text(max_size=3),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=8,
)
GOOD = st.floats(-2e5, 2e5) | st.integers(-1000, 1000)
POINT = st.fixed_dictionaries(
    {"x": GOOD, "y": GOOD, "t": GOOD}, optional={"type": st.sampled_from(points.TYPES) | ANY, "z": ANY}
)
INSTANCES = st.fixed_dictionaries(
    {},
    optional={
        "points": st.lists(POINT, min_size=8, max_size=12) | st.lists(POINT | ANY, max_size=12) | ANY,
        "x": st.lists(GOOD, min_size=9, max_size=9) | st.lists(NUMBERS, max_size=12) | ANY,
        "y": st.lists(GOOD, min_size=9, max_size=9) | ANY,
        "t": st.lists(GOOD, min_size=9, max_size=9).map(sorted) | ANY,
        "pointer": st.sampled_from(POINTERS) | ANY,
        "viewport": st.fixed_dictionaries({"width": GOOD, "height": GOOD}) | ANY,
        "other": ANY,
    },
)


def check(instance: dict[str, Any]) -> Trajectory | None:
    try:
        found = points.read(instance)
    except InvalidContentError:
        return None
    assert MIN_POINTS <= len(found.x) == len(found.y) == len(found.t) <= MAX_POINTS
    assert np.isfinite([found.x, found.y, found.t]).all()
    assert np.abs([found.x, found.y]).max() <= points.MAX_POSITION
    assert (np.diff(found.t) >= 0).all()
    assert found.pointer in POINTERS
    return found


@given(INSTANCES | st.dictionaries(st.text(max_size=5), ANY, max_size=4))
def test_anything_is_a_movement_or_is_refused(instance: dict[str, Any]) -> None:
    check(instance)


@given(
    st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=8, max_size=30),
    st.lists(st.floats(0, 1000), min_size=30, max_size=30),
    st.floats(-1e15, 1e15),
)
def test_every_movement_has_finite_features(
    places: list[tuple[float, float]], steps: list[float], start: float
) -> None:
    times = (start + np.cumsum(steps[: len(places)])).tolist()
    found = check({"x": [x for x, _ in places], "y": [y for _, y in places], "t": times})
    assert found is not None
    assert np.isfinite(features([found])).all()
