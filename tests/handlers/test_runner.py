"""Bound buffers give what a plain run gives. On the CPU's device: no test here has a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.runner import Bound, Plain, powers_of_two
from handlers.spec import NetworkSpec
from tests.handlers.networks import SIDE, write_classifier, write_ranged

CHUNK = 9
SPEC = NetworkSpec("model.onnx", (SIDE, SIDE, 3), chunk=CHUNK)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return onnxruntime.InferenceSession(write_classifier(tmp_path_factory.mktemp("network") / "model.onnx"))


@pytest.fixture(scope="module")
def bound(session: Any) -> Bound:
    return Bound(session, SPEC, "cpu")


def pictures(seed: int, count: int) -> list[Any]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32), st.integers(1, CHUNK)), min_size=1, max_size=4))
def test_both_give_the_same(session: Any, bound: Bound, batches: list[tuple[int, int]]) -> None:
    """Whatever ran before in the same buffers, and whatever runs after: earlier answers stay as they were."""
    plain = Plain(session, SPEC)
    given = [pictures(seed, count) for seed, count in batches]
    answers = [bound(items) for items in given]
    for items, (answer,) in zip(given, answers, strict=True):
        (expected,) = plain(items)
        assert answer.shape == expected.shape
        assert answer.dtype == expected.dtype
        np.testing.assert_allclose(answer, expected, atol=1e-6)


@pytest.mark.parametrize("count", range(1, CHUNK + 1))
def test_every_batch_size(session: Any, bound: Bound, count: int) -> None:
    items = pictures(count, count)
    np.testing.assert_allclose(bound(items)[0], Plain(session, SPEC)(items)[0], atol=1e-6)


def test_what_fills_a_batch_up_changes_no_answer(tmp_path: Path) -> None:
    """Of a network that looks at the whole batch, after a batch with far larger values in the same buffers."""
    spec = NetworkSpec("model.onnx", (2,), "float32", ("share",), chunk=8)
    session = onnxruntime.InferenceSession(write_ranged(tmp_path / "model.onnx"))
    bound = Bound(session, spec, "cpu")
    bound([np.full(2, 1e6, np.float32)] * 8)
    items = [np.array([index, -2 * index], np.float32) for index in (1, 2, 3, -4, 2)]
    np.testing.assert_allclose(bound(items)[0], Plain(session, spec)(items)[0])


def test_the_sizes(session: Any) -> None:
    assert Plain(session, SPEC).sizes == [1, CHUNK]
    assert Bound(session, SPEC, "cpu").sizes == [1, 2, 4, 8, 9]
    chosen = Bound(session, replace(SPEC, batch_sizes=(3, 20)), "cpu")
    assert chosen.sizes == [3, 20]
    assert [chosen(pictures(0, count))[0].shape for count in (1, 3, 4, 20)] == [(1, 3), (3, 3), (4, 3), (20, 3)]


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (32, [1, 2, 4, 8, 16, 32]), (33, [1, 2, 4, 8, 16, 32, 33])],
)
def test_powers_of_two(most: int, sizes: list[int]) -> None:
    assert powers_of_two(most) == sizes


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((SIDE, SIDE, 3), np.float32),
        np.zeros((SIDE, SIDE, 4), np.uint8),
        np.zeros((SIDE, 1, 3), np.uint8),  # numpy would stretch it
        np.zeros(3, np.uint8),
    ],
)
def test_another_type_or_shape_is_refused(bound: Bound, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        bound([wrong] * 4)


def test_more_than_there_is_a_buffer_for(bound: Bound) -> None:
    with pytest.raises(ValueError, match="10 items at once; at most 9"):
        bound(pictures(0, 10))
