"""`marserve evaluate`: how well an archive's classifier does on labelled images, without a server."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handlers.errors import RequestError
from marserve import metrics
from marserve.archive import Archive
from marserve.errors import DataError
from marserve.model import load_model
from marserve.photos import CLASSIFIERS, Photo, answers, predicted, probabilities, scan


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Of one label; `images` are those that have it. The scores are 0 where there is nothing to divide by."""

    images: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Of the images in one folder `<group>/<class>`: the share in which the model saw the group."""

    images: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Confusion:
    labels: list[str]
    matrix: list[list[int]]  # a row per true label, a column per predicted one


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `--json` prints, field by field. Every figure leaves the unreadable images out; `marserve.metrics` says what
    each one is. They come from the replies, whose probabilities have six decimals: one of 0.000000 for the true label
    adds as much to `log_loss` as 1e-15 does.
    """

    model: str
    version: str
    images: int  # that were read
    unreadable: int
    accuracy: float
    macro_f1: float
    weighted_f1: float
    groups: Mapping[str, GroupScores]  # every label of the model
    classes: Mapping[str, ClassScores]  # "group/class"; empty where images lie in the groups' own folders
    confusion: Confusion
    log_loss: float  # nats
    calibration_error: float


Problem = tuple[Path, str]  # an image, and why it has no answer
_Read = tuple[Photo, Mapping[str, Any]]  # and what the model replied


def evaluate(archive: Archive, folder: Path) -> tuple[Evaluation, list[Problem]]:
    """Run every image of a labelled folder through the archive's model; the figures, and what has no answer.

    The answers are those of a worker with this version of the handlers. Raises DataError for a folder that is not laid
    out as `scan` wants it or of which nothing can be read, and MarserveError for an archive that cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="marserve-evaluate-") as scratch:
        pipeline, spec = load_model(archive.path, Path(scratch, "model"), CLASSIFIERS)
        photos = scan(folder, spec.labels)
        read: list[_Read] = []
        problems: list[Problem] = []
        answered = answers(pipeline, [photo.path for photo in photos], "evaluating")
        for photo, (_, answer) in zip(photos, answered, strict=True):
            if isinstance(answer, RequestError):
                problems.append((photo.path, answer.message))
            else:
                read.append((photo, answer))
    if not read:
        path, message = problems[0]
        raise DataError(f"none of the {len(problems):,} images in {folder} can be read; {path}: {message}")
    return _score(archive, spec.labels, read, len(problems)), problems


def _score(archive: Archive, labels: Sequence[str], read: Sequence[_Read], unreadable: int) -> Evaluation:
    number = {label: index for index, label in enumerate(labels)}
    truth = np.array([number[photo.label] for photo, _ in read])
    found = np.array([number[predicted(reply)] for _, reply in read])
    said = np.array([probabilities(reply, labels) for _, reply in read])
    confusion = metrics.confusion_matrix(truth, found, len(labels))
    scores = metrics.scores(confusion)
    columns = (confusion.sum(axis=1), scores.precision, scores.recall, scores.f1)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return Evaluation(
        model=archive.name,
        version=archive.version,
        images=len(read),
        unreadable=unreadable,
        accuracy=metrics.accuracy(confusion),
        macro_f1=metrics.macro_f1(confusion),
        weighted_f1=metrics.weighted_f1(confusion),
        groups={label: GroupScores(*row) for label, row in zip(labels, rows, strict=True)},
        classes=_by_class(read),
        confusion=Confusion(list(labels), confusion.tolist()),
        log_loss=metrics.log_loss(truth, said),
        calibration_error=metrics.calibration_error(truth == found, said.max(axis=1)),
    )


def _by_class(read: Sequence[_Read]) -> dict[str, ClassScores]:
    right: dict[str, list[bool]] = {}
    for photo, reply in read:
        if photo.class_name:
            right.setdefault(f"{photo.label}/{photo.class_name}", []).append(predicted(reply) == photo.label)
    return {name: ClassScores(len(found), sum(found) / len(found)) for name, found in right.items()}
