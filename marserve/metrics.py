"""How good a classifier's answers are. numpy alone; the definitions are scikit-learn's, and tests hold them to it.

Labels are counted from 0. `truth` and `predicted` are (images,) of such numbers, `probabilities` is (images, labels),
and a confusion matrix is (labels, labels): a row per true label, a column per predicted one. All need one image at
least.

Of detectors, `positive` is (movements,), whether each one is what is looked for, and `score` (movements,) is higher the
more it looks so. They need one that is and one that is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Bools = NDArray[np.bool_]

BINS = 15
_SMALLEST = 1e-15


@dataclass(frozen=True, slots=True)
class Scores:
    """Of every label, (labels,) from 0 to 1; 0 where a ratio is 0 / 0: scikit-learn's `zero_division=0`."""

    precision: Floats
    recall: Floats
    f1: Floats


def confusion_matrix(truth: Indices, predicted: Indices, labels: int) -> Indices:
    """How many images of each true label were taken for each label."""
    return np.bincount(truth * labels + predicted, minlength=labels**2).reshape(labels, labels)


def accuracy(confusion: Indices) -> float:
    """The share of images whose label was found, 0 to 1."""
    return float(confusion.trace() / confusion.sum())


def scores(confusion: Indices) -> Scores:
    """Precision (right among those predicted so), recall (found among those that are so), and their harmonic mean."""
    hits, predicted, true = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    return Scores(_ratio(hits, predicted), _ratio(hits, true), _ratio(2 * hits, predicted + true))


def macro_f1(confusion: Indices) -> float:
    """The mean F1 of the labels, each counting the same, 0 to 1.

    A label that no image has and that is never predicted is left out; one that is only predicted, or never predicted
    right, counts with 0. That is scikit-learn's `f1_score(average="macro", zero_division=0)` without `labels`.
    """
    seen = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    return float(scores(confusion).f1[seen].mean())


def weighted_f1(confusion: Indices) -> float:
    """The mean F1 of the labels, each counting as often as images have it, 0 to 1."""
    return float(np.average(scores(confusion).f1, weights=confusion.sum(axis=1)))


def log_loss(truth: Indices, probabilities: Floats) -> float:
    """The mean negative logarithm of the true label's probability, in nats; one below 1e-15 counts as 1e-15."""
    of_truth = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(of_truth.clip(_SMALLEST, 1)).mean())


def calibration_error(correct: Bools, confidence: Floats, bins: int = BINS) -> float:
    """How far confidence (images,) is from the share of right answers, 0 to 1.

    The expected calibration error: the mean distance over bins of equal width (a, b], each weighted by its images.
    Source: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    place = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    # A bin's weight cancels against the mean's denominator: what is left are sums.
    distances = np.bincount(place, correct - confidence, minlength=bins)
    return float(np.abs(distances).sum() / len(confidence))


def auc(positive: Bools, score: Floats) -> float:
    """The area under the ROC curve, 0 to 1: how often one that is has the higher score than one that is not."""
    false, true = _roc(positive, score)
    return float(np.trapezoid(true, false))


def equal_error_rate(positive: Bools, score: Floats) -> float:
    """The share of false alarms, 0 to 1, where it is the share of those missed; between two thresholds on the line."""
    false, true = _roc(positive, score)
    gap = 1 - true - false  # from 1 to -1, and never up
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(false[after - 1] + share * (false[after] - false[after - 1]))


def recall_at(positive: Bools, score: Floats, false_alarms: float) -> float:
    """The most that a threshold finds, 0 to 1, whose share of false alarms is not above `false_alarms`."""
    false, true = _roc(positive, score)
    return float(true[false <= false_alarms].max())


def _roc(positive: Bools, score: Floats) -> tuple[Floats, Floats]:
    """The shares of false and of true alarms, each (thresholds,), from (0, 0) to (1, 1): one for each score."""
    order = np.argsort(-score)
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # of those with the same score
    true = np.concatenate(([0], positive[order].cumsum()[last]))
    false = np.concatenate(([0], (~positive[order]).cumsum()[last]))
    return false / false[-1], true / true[-1]


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    ratio = np.zeros(len(whole))
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
