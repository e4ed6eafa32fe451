"""An answer is the recorded one, or where it is not is told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.answers import difference, form_of, mismatch

ANSWER: dict[str, Any] = {"label": "cat", "sure": True, "scores": [0.25, 0.75], "of": {"size": 3, "name": "é"}}
any_answer = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(any_answer)
def test_an_answer_is_as_itself(answer: Any) -> None:
    assert difference(answer, copy.deepcopy(answer), 0.0) == ""


@given(any_answer, any_answer)
def test_what_is_said_does_not_hang_on_the_order(one: Any, other: Any) -> None:
    assert bool(difference(one, other, 0.5)) == bool(difference(other, one, 0.5))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": "dog"}, 'label "dog" instead of "cat"'),
        ({"sure": False}, "sure false instead of true"),
        ({"sure": 1}, "sure 1 instead of true"),
        ({"scores": [0.25, 0.86]}, "scores[1] 0.86 instead of 0.75, give or take 0.1"),
        ({"scores": [0.25, float("nan")]}, "scores[1] nan instead of 0.75, give or take 0.1"),
        ({"scores": [0.25]}, "scores [0.25] instead of [0.25, 0.75]"),
        ({"of": {"size": 3, "name": "e"}}, 'of.name "e" instead of "é"'),
        ({"of": {"size": 3}}, 'of {"size": 3} instead of {"size": 3, "name": "é"}'),
        ({"more": 1}, "as a whole"),
        ({"scores": [0.3, 0.7], "of": {"size": 3.05, "name": "é"}}, ""),
    ],
)
def test_differences(changes: dict[str, Any], said: str) -> None:
    found = difference(ANSWER, ANSWER | changes, 0.1)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def ranking(**probabilities: float) -> dict[str, Any]:
    return {"top": [{"label": label, "probability": p} for label, p in probabilities.items()]}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (ranking(a=0.6, c=0.2, b=0.19), ""),  # two that are nearly as likely
        (ranking(a=0.6, b=0.2, d=0.19), ""),  # the last of several that are
        (ranking(a=0.6, b=0.05, c=0.04), "top.b 0.05 instead of 0.2, give or take 0.1"),
        (ranking(b=0.6, a=0.2, c=0.19), "top.a 0.2 instead of 0.6, give or take 0.1"),
        (ranking(d=0.6, b=0.2, c=0.19), "top.a 0.19 instead of 0.6, give or take 0.1"),
        (ranking(a=0.6, b=0.2), "top "),
        ({"top": [{"label": "a"}] * 3}, "top[0] "),
    ],
)
def test_a_ranking_is_compared_label_by_label(found: dict[str, Any], said: str) -> None:
    recorded = ranking(a=0.6, b=0.2, c=0.19)
    assert difference(recorded, found, 0.1).startswith(said)
    assert bool(difference(recorded, found, 0.1)) == bool(difference(found, recorded, 0.1)) == bool(said)


@given(any_answer.filter(lambda answer: "[]" not in str(answer)))
def test_a_form_is_that_of_its_answer(answer: Any) -> None:
    assert form_of(form_of(answer)) == form_of(form_of(form_of(answer)))
    if not isinstance(answer, list) and "[" not in str(answer):
        assert mismatch(form_of(answer), answer) == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"images": [{"id": "a"}, {"id": "b"}], "of": {"cat": 1, "dog": 2.5}}, ""),
        ({"images": [], "of": {}}, ""),
        ({"images": [{"id": "a"}, {"id": 7}], "of": {}}, 'images[1].id 7 instead of "text"'),
        ({"images": [{"id": "a", "x": 1}], "of": {}}, "images[0] with id, x instead of id"),
        ({"images": {}, "of": {}}, 'images {} instead of [{"id": "text"}]'),
        ({"images": [], "of": {"cat": "1"}}, 'of.cat "1" instead of "number"'),
        ({"images": [], "of": {"cat": True}}, 'of.cat true instead of "number"'),
        ({"images": []}, "as a whole with images instead of images, of"),
    ],
)
def test_forms(answer: Any, said: str) -> None:
    assert mismatch({"images": [{"id": "text"}], "of": {"*": "number"}}, answer) == said
