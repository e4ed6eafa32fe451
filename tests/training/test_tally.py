"""Scores from sums, held against scikit-learn's on the predictions themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from training.tally import Tally

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def one_hot(labels: list[int], count: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(labels), count).float()


@given(pairs, st.integers(1, 7))
def test_f1_is_scikit_learns_in_whatever_batches(images: list[tuple[int, int]], batch: int) -> None:
    tally = Tally(4, torch.device("cpu"))
    for start in range(0, len(images), batch):
        truth, found = map(list, zip(*images[start : start + batch], strict=True))
        tally.add(torch.tensor(2.0), one_hot(found, 4), one_hot(truth, 4), one_hot(truth, 4), one_hot(truth, 4))
    truth, found = map(list, zip(*images, strict=True))
    scores = tally.scores()
    for average in ("weighted", "macro"):
        assert scores[f"{average}_f1"] == pytest.approx(f1_score(truth, found, average=average, zero_division=0))
    assert scores["accuracy"] == pytest.approx(sum(t == f for t, f in images) / len(images))
    assert (scores["loss"], scores["class_accuracy"]) == (2.0, 1.0)


def test_a_mixed_target_counts_as_its_larger_part() -> None:
    tally = Tally(2, torch.device("cpu"))
    mixed = torch.tensor([[0.4, 0.6], [0.9, 0.1]])
    tally.add(torch.tensor(1.0), torch.tensor([[0.0, 1.0], [0.0, 1.0]]), mixed, mixed, mixed)
    assert tally.scores()["accuracy"] == 0.5
