"""When two answers agree."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.shadow.comparison import (
    AGREES,
    EXAMPLES,
    LABEL,
    LONG,
    MOST_PATHS,
    NONE,
    OTHERS,
    SHAPE,
    STATUS,
    TEXT,
    Comparison,
    at_most,
    difference,
)
from marserve.shadow.copies import Copy, Reply
from marserve.shadow.replay import NO_ANSWER, TIMED_OUT, Answer

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def asked(body: Any, status: int = 200, request_id: str = "id", headers: Any = None) -> Copy:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Copy(request_id, headers or {}, {"body": b"secret"}, Reply(status, content), 0.002)


def answered(body: Any, status: int | str = 200) -> Answer:
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), 0.003)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ({"label": "cat"}, {"label": "cat"}, AGREES),
        ({"label": "cat"}, {"label": "dog"}, LABEL),
        ({"predicted_class": "a", "message": "x"}, {"predicted_class": "a", "message": "y"}, AGREES),
        ({"predicted_class": "a", "message": "x"}, {"predicted_class": "b", "message": "x"}, LABEL),
        ({"label": "cat", "confidence": 0.9}, {"label": "cat", "confidence": 0.1}, AGREES),
        ({"label": "cat", "remark": "a"}, {"label": "cat", "remark": "b"}, AGREES),
        ({"label": "cat"}, {"label": None}, LABEL),
        ({"label": "cat"}, {"label": "cat", "more": 1}, AGREES),
        ({"label": "cat", "more": 1}, {"label": "cat"}, SHAPE),
        ({"predictions": [{"label": "a"}, {"label": "b"}]}, {"predictions": [{"label": "a"}, {"label": "c"}]}, LABEL),
        ({"predictions": [{"label": "a"}, {"label": "b"}]}, {"predictions": [{"label": "a"}]}, SHAPE),
        ({"human": True}, {"human": False}, TEXT),
        ({"human": True}, {"human": True}, AGREES),
        ({"kind": "x"}, {"kind": "y"}, TEXT),
        ({"score": 1}, {"score": 2}, AGREES),
        ({"score": 1}, {"score": "1"}, TEXT),
        ("x", "y", TEXT),
        (1, 2, AGREES),
        ([], [], AGREES),
        ([], [1], SHAPE),
        (b"\xff", b"\xfe", AGREES),
        (b"\xff", {}, SHAPE),
        ({}, b"\xff", SHAPE),
        ({"images": [{"data": "x" * (LONG + 1), "label": "a"}]}, {"images": [{"data": "y", "label": "b"}] * 2}, AGREES),
        ({"images": [{"data": "x" * (LONG + 1), "label": "a"}]}, {"images": [{"data": "y"}]}, SHAPE),
    ],
)
def test_two_answers(old: Any, new: Any, verdict: str) -> None:
    assert difference(asked(old), answered(new)).verdict == verdict


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (200, 200, AGREES),
        (200, 503, STATUS),
        (400, 200, STATUS),
        (400, 422, STATUS),
        (400, 400, AGREES),
        (200, TIMED_OUT, NONE),
        (500, NO_ANSWER, NONE),
    ],
)
def test_two_statuses(old: int, new: int | str, verdict: str) -> None:
    assert difference(asked({"a": "1"}, old), answered({"a": "1" if old == 200 else "2"}, new)).verdict == verdict


@given(JSON)
def test_what_is_equal_agrees(body: Any) -> None:
    found = difference(asked(body), answered(body))
    assert found.verdict == AGREES
    assert all(drift == 0 for _, drift in found.drifts)


@given(JSON, JSON)
def test_any_two_answers_can_be_compared(old: Any, new: Any) -> None:
    assert difference(asked(old), answered(new)).verdict in (AGREES, LABEL, TEXT, SHAPE)


def test_deep_answers_can_be_compared() -> None:
    deep = b"[" * 1000 + b"1" + b"]" * 1000
    assert difference(asked(deep), answered(deep)).verdict == AGREES


def test_figures_add_up() -> None:
    comparison = Comparison()
    for number in range(10):
        old = {"label": "cat", "probabilities": {"cat": 0.8, "dog": 0.2}}
        now = 0.8 if number else 0.3
        new = {"label": "cat" if number else "dog", "probabilities": {"cat": now, "dog": 1 - now}}
        comparison.add(asked(old), answered(new))
    comparison.add(asked({}), answered(b"", TIMED_OUT))
    assert (comparison.compared, comparison.disagreements) == (11, 2)
    assert comparison.labels == {("cat", "cat"): 9, ("cat", "dog"): 1}
    assert comparison.statuses == {(200, 200): 10, (200, TIMED_OUT): 1}
    summary = comparison.drifts["probabilities.cat"].summary()
    assert summary is not None
    assert (summary.count, round(summary.mean, 9), round(summary.max, 9), summary.p50) == (10, 0.05, 0.5, 0)
    times = comparison.old_seconds.summary(), comparison.new_seconds.summary()
    assert [one and one.count for one in times] == [11, 10]  # what never came has no time


def test_examples_are_the_largest_differences_and_say_nothing_of_a_request() -> None:
    comparison = Comparison()
    for number in range(3 * EXAMPLES):
        old, new = {"label": "a", "p": 0.0}, {"label": "b", "p": number / 100}
        comparison.add(asked(old, request_id=f"r{number}"), answered(new))
    drifts = [example.drift for example in comparison.examples]
    assert drifts == sorted(drifts, reverse=True)
    assert comparison.examples[0].request_id == f"r{3 * EXAMPLES - 1}"
    assert len(drifts) == EXAMPLES
    comparison.add(asked({"name": "client's own"}), answered({"name": "secret"}))
    told = [word for example in comparison.examples for word in (example.old, example.new)]
    assert not any("client" in word or "secret" in word for word in told)


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [({}, "id"), ({"X-Request-ID": "edge-1"}, "edge-1"), ({"x-request-id": "<script>"}, "id")],
)
def test_an_example_has_the_id_that_a_log_has(headers: dict[str, str], request_id: str) -> None:
    comparison = Comparison()
    comparison.add(asked({"label": "a"}, headers=headers), answered({"label": "b"}))
    assert comparison.examples[0].request_id == request_id


def test_an_answer_of_endless_names_takes_little_memory() -> None:
    comparison = Comparison()
    for number in range(3 * MOST_PATHS):
        comparison.add(asked({f"n{number}": 1}), answered({f"n{number}": 2}))
    assert len(comparison.drifts) == MOST_PATHS + 1
    assert OTHERS in comparison.drifts


def test_what_may_differ_beyond_what_was_seen() -> None:
    assert at_most(0, 0) == 1
    assert at_most(0, 100) == pytest.approx(0.0370, abs=1e-4)  # Wilson's interval, as statsmodels has it
    assert at_most(5, 100) == pytest.approx(0.1118, abs=1e-4)
    assert at_most(100, 100) == pytest.approx(1)


def test_of_images_the_status_alone_is_compared() -> None:
    first, second = b"\xff\xd8\xff one", b"\x89PNG two"
    same = difference(asked(first), answered(second))
    assert (same.verdict, same.by_value) == (AGREES, False)
    assert difference(asked(first), answered({"faces": []})).verdict == SHAPE
    assert difference(asked({"faces": []}), answered(first)).verdict == SHAPE
    assert difference(asked(first), answered({"error": {}}, 422)).verdict == STATUS
