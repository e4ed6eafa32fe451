"""Load shapes: those that ship, those that are refused, and how they scale."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.errors import LoadTestError
from loadtest.shapes import MIN_DURATION, Stage, length, load_shape, parse_shape, peak, scale, stage_at

STAGE = {"duration": 10, "users": 4, "spawn_rate": 2}

stages = st.lists(st.builds(Stage, st.floats(1, 100), st.integers(1, 1000), st.just(1000.0)), min_size=1, max_size=5)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)
nearly = st.lists(
    st.fixed_dictionaries({"duration": anything, "users": anything, "spawn_rate": anything})
    | st.fixed_dictionaries({key: st.integers(-1, 10**400) | st.floats() for key in STAGE}),
    max_size=3,
)


@pytest.mark.parametrize("name", ["steady", "ramp", "spike"])
def test_the_shapes_that_ship_are_good(name: str) -> None:
    assert length(load_shape(name)) >= 60


@settings(deadline=None)
@given(anything | nearly)
def test_any_data_gives_stages_or_a_message(data: Any) -> None:
    parsed: list[Stage] = []
    with suppress(LoadTestError):
        parsed = parse_shape(data, "mine")
    if parsed:
        assert [asdict(stage) for stage in parsed] == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration": 0.5}, "'duration' must be"),
        ({"duration": float("nan")}, "'duration' must be"),
        ({"users": 0}, "'users' must be"),
        ({"users": 4.0}, "'users' must be"),
        ({"users": True}, "'users' must be"),
        ({"spawn_rate": 0}, "'spawn_rate' must be"),
        ({"spawn_rate": float("inf")}, "'spawn_rate' must be"),
        ({"users": 25}, "25 users are not reached in 10 s at 2 per second"),
        ({"pause": 1}, "exactly the fields"),
    ],
)
def test_a_wrong_stage_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LoadTestError, match=f"^mine, stage 2: .*{message}"):
        parse_shape([STAGE, STAGE | change], "mine")


@pytest.mark.parametrize("text", ["", "a: 1", "[]", "&a [*a]", "[", "- {duration: 2020-13-45}", "\x00", "\udcff"])
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LoadTestError, match="mine") as error:
        load_shape(str(path))
    assert "\n" not in str(error.value)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("- {duration: 10, users: 4, spawn_rate: 2}")
    assert load_shape(str(path)) == [Stage(10, 4, 2)]


@pytest.mark.parametrize("name", ["", "nope", "/nope.yaml"])
def test_an_unknown_shape_is_told(name: str) -> None:
    with pytest.raises(LoadTestError, match=r"unknown shape|does not exist"):
        load_shape(name)


@settings(deadline=None)
@given(stages, st.integers(1, 1000), st.floats(10, 10_000))
def test_scaling_keeps_the_curve(curve: list[Stage], users: int, seconds: float) -> None:
    try:
        scaled = scale(curve, users, seconds)
    except LoadTestError:
        assert min(stage.duration for stage in curve) * seconds / length(curve) < MIN_DURATION
        return
    assert peak(scaled) == users
    assert length(scaled) == pytest.approx(seconds)
    for before, stage in pairwise([Stage(0, 0, 1), *scaled]):
        assert stage.users >= 1
        assert abs(stage.users - before.users) <= stage.spawn_rate * stage.duration * (1 + 1e-9)


def test_nothing_to_scale_changes_nothing() -> None:
    assert scale(load_shape("spike"), None, None) == load_shape("spike")


def test_the_stage_that_is_on() -> None:
    first, second = Stage(2, 1, 1), Stage(3, 5, 5)
    found = [stage_at([first, second], seconds) for seconds in (0, 1.9, 2, 4.9, 5, 100)]
    assert found == [first, first, second, second, None, None]
