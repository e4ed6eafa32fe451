"""Every figure against scikit-learn's, or against its definition written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from marserve import metrics
from tests.marserve.conftest import PATIENT


@st.composite
def classified(draw: st.DrawFn) -> tuple[metrics.Indices, metrics.Indices, int]:
    """True and predicted labels, and how many labels there are; often some that no image has or that none is given."""
    labels = draw(st.integers(2, 6))
    one = st.sampled_from(sorted(draw(st.sets(st.integers(0, labels - 1), min_size=1))))
    pairs = draw(st.lists(st.tuples(one, one), min_size=1, max_size=40))
    truth, predicted = np.array(pairs, np.intp).T
    return truth, predicted, labels


@settings(PATIENT, max_examples=300)
@given(classified())
def test_what_comes_from_the_confusion_matrix(case: tuple[metrics.Indices, metrics.Indices, int]) -> None:
    truth, predicted, labels = case
    every = list(range(labels))
    confusion = metrics.confusion_matrix(truth, predicted, labels)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(truth, predicted, labels=every))
    found = metrics.scores(confusion)
    expected = reference.precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0)
    for ours, theirs in zip((found.precision, found.recall, found.f1), expected[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert metrics.accuracy(confusion) == pytest.approx(reference.accuracy_score(truth, predicted))
    for average, mean in (("macro", metrics.macro_f1), ("weighted", metrics.weighted_f1)):
        theirs = reference.f1_score(truth, predicted, average=average, zero_division=0)
        assert mean(confusion) == pytest.approx(theirs)


def test_macro_f1_leaves_out_only_what_is_neither_there_nor_predicted() -> None:
    there_and_right, neither, only_predicted = [[3, 0, 0]], [[0, 0, 0]], [[1, 0, 0]]
    assert metrics.macro_f1(np.array([*there_and_right, *neither, *neither])) == 1
    assert metrics.macro_f1(np.array([[3, 0, 1], *neither, *neither])) == pytest.approx((6 / 7 + 0) / 2)
    assert metrics.macro_f1(np.array([*there_and_right, *neither, *only_predicted])) == pytest.approx((6 / 7 + 0) / 2)


@settings(PATIENT)
@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_log_loss(labels: int, images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, labels, images)
    probabilities = random.dirichlet(np.ones(labels), images)
    expected = reference.log_loss(truth, probabilities, labels=list(range(labels)))
    assert metrics.log_loss(truth, probabilities) == pytest.approx(expected)


def test_log_loss_of_a_certain_error_is_finite() -> None:
    certain = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert metrics.log_loss(np.array([0, 1]), certain) == pytest.approx(-np.log(1e-15) / 2)


@settings(PATIENT)
@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0, 1) | st.sampled_from([0.2, 0.4, 0.6, 0.8, 1 / 3])),
        min_size=1,
        max_size=60,
    )
)
def test_calibration_error_is_the_mean_over_bins(answers: list[tuple[bool, float]]) -> None:
    expected = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [(right, c) for right, c in answers if low < c <= high or (number == 0 and c == 0)]
        if inside:
            rights, confidences = zip(*inside, strict=True)
            expected += len(inside) / len(answers) * abs(np.mean(rights) - np.mean(confidences))
    rights, confidences = zip(*answers, strict=True)
    found = metrics.calibration_error(np.array(rights), np.array(confidences))
    assert found == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_those_who_know_how_sure_to_be() -> None:
    four_of_five = np.array([True, True, True, True, False])
    assert metrics.calibration_error(four_of_five, np.full(5, 0.8)) == pytest.approx(0)
    assert metrics.calibration_error(four_of_five, np.full(5, 1.0)) == pytest.approx(0.2)


@st.composite
def detected(draw: st.DrawFn) -> tuple[metrics.Bools, metrics.Floats]:
    """Some of both kinds, with few or many different scores."""
    one = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32)
    positive, negative = (draw(st.lists(one, min_size=1, max_size=30)) for _ in range(2))
    order = draw(st.permutations(range(len(positive) + len(negative))))
    is_it = np.array([True] * len(positive) + [False] * len(negative))
    return is_it[order], np.array(positive + negative)[order]


@settings(PATIENT, max_examples=300)
@given(detected(), st.sampled_from([0, 0.02, 0.1, 0.5, 1]))
def test_what_comes_from_the_roc_curve(case: tuple[metrics.Bools, metrics.Floats], share: float) -> None:
    positive, score = case
    assert metrics.auc(positive, score) == pytest.approx(reference.roc_auc_score(positive, score))
    false, true, _ = reference.roc_curve(positive, score, drop_intermediate=False)
    assert metrics.recall_at(positive, score, share) == pytest.approx(true[false <= share].max())
    rate = metrics.equal_error_rate(positive, score)
    crossings = [  # of the curve's pieces with the line of equal errors
        np.interp(0, [after[0] + after[1] - 1, before[0] + before[1] - 1][::-1], [after[0], before[0]][::-1])
        for before, after in zip(zip(false, true, strict=True), zip(false[1:], true[1:], strict=True), strict=False)
        if before[0] + before[1] <= 1 <= after[0] + after[1]
    ]
    assert min(abs(rate - crossing) for crossing in crossings) < 1e-9


def test_an_equal_error_rate_between_two_thresholds() -> None:
    positive = np.array([True, True, False, False])
    assert metrics.equal_error_rate(positive, np.array([0.9, 0.8, 0.2, 0.1])) == 0
    assert metrics.equal_error_rate(positive, np.array([0.1, 0.2, 0.8, 0.9])) == 1
    assert metrics.equal_error_rate(positive, np.array([0.9, 0.3, 0.4, 0.1])) == 0.5
    assert metrics.equal_error_rate(positive, np.full(4, 0.5)) == 0.5
    # All with the same score but one: the curve goes from (0, 1/3) straight to (1, 1), and meets 1 - x at x = 0.4.
    assert metrics.equal_error_rate(np.array([True, True, True, False]), np.array([0.9, 0.5, 0.5, 0.5])) == (
        pytest.approx(0.4)
    )


def test_two_percent_of_fifty_is_one() -> None:
    positive = np.array([True] * 4 + [False] * 50)
    score = np.concatenate([[0.99, 0.9, 0.5, 0.1], [0.95, 0.6], np.linspace(0, 0.4, 48)])
    assert metrics.recall_at(positive, score, 0.02) == 0.5
    assert metrics.recall_at(positive, score, 0.019) == 0.25
    assert metrics.recall_at(positive, score, 0.04) == 0.75
