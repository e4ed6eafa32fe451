"""`marserve evaluate` of an embedding: how often the nearest of other images is of the same class, without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marserve.archive import Archive
from marserve.embeddings import Vectors, embed
from marserve.errors import DataError
from marserve.evaluate import Problem
from marserve.photos import scan

NEAREST = 5
_ROWS = 256  # whose similarities to all images are in memory at once


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Of the images of one kind, or of all: the share of the same kind where the nearest image, or the five nearest,
    are looked at; and among all others, which is what drawing lots gives."""

    images: int
    precision_at_1: float
    precision_at_5: float
    chance: float


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What `--json` prints, field by field. Every image is looked for among all others of the folder, by cosine
    similarity. Unreadable images are left out."""

    model: str
    version: str
    images: int
    unreadable: int
    classes: int
    precision_at_1: float
    precision_at_5: float
    chance: float
    groups: RetrievalScores | None  # the same for the folders above the classes, where there are any
    by_class: Mapping[str, RetrievalScores]  # "group/class", or "class"


def evaluate(archive: Archive, folder: Path) -> tuple[Retrieval, list[Problem]]:
    """Look for every image of a labelled folder among the others; the figures, and what could not be read.

    Raises DataError for a folder without classes, or with fewer than six images that can be read.
    """
    photos = {photo.path: photo for photo in scan(folder)}
    found = embed(archive.path, list(photos), "evaluating")
    read = [photos[path] for path in found.paths]
    if len(read) <= NEAREST:
        raise DataError(f"{folder} has {len(read)} images that can be read; for precision@{NEAREST} it takes more")
    nearest = neighbours(found.vectors, NEAREST)
    names = [f"{photo.label}/{photo.class_name}" if photo.class_name else photo.label for photo in read]
    classes, numbers = np.unique(names, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"{folder} has images of one class only, {names[0]}: put each class into a folder of its own")
    whole, by_class = _score(numbers, nearest)
    _, groups = np.unique([photo.label for photo in read], return_inverse=True)
    nested = any(photo.class_name for photo in read)
    evaluation = Retrieval(
        model=archive.name,
        version=archive.version,
        images=len(read),
        unreadable=len(found.problems),
        classes=len(classes),
        precision_at_1=whole.precision_at_1,
        precision_at_5=whole.precision_at_5,
        chance=whole.chance,
        groups=_score(groups, nearest)[0] if nested else None,
        by_class=dict(zip(classes.tolist(), by_class, strict=True)),
    )
    return evaluation, found.problems


def neighbours(vectors: Vectors, count: int) -> NDArray[np.int64]:
    """(N, dim) -> the numbers of the `count` most similar others of each, the most similar first; (N, count)."""
    found = []
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        similarity = rows @ vectors.T  # (rows, N)
        similarity[np.arange(len(rows)), np.arange(start, start + len(rows))] = -np.inf  # no image is its own neighbour
        best = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similarity, best, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)


def _score(kinds: NDArray[np.int64], nearest: NDArray[np.int64]) -> tuple[RetrievalScores, Sequence[RetrievalScores]]:
    """Of all images together, and of each kind."""
    same = kinds[nearest] == kinds[:, None]  # (N, NEAREST)
    counts = np.bincount(kinds)
    chance = (counts[kinds] - 1) / (len(kinds) - 1)  # (N,)

    def of(rows: NDArray[np.bool_]) -> RetrievalScores:
        means = (same[rows, 0].mean(), same[rows].mean(), chance[rows].mean())
        return RetrievalScores(int(rows.sum()), *map(float, means))

    return of(np.full(len(kinds), True)), [of(kinds == kind) for kind in range(len(counts))]
