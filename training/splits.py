"""Which photographs train and which validate; every class in the same proportion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from training.captcha_dataset import Photo, by_class
from training.cli import DataError

Parts = tuple[list[Photo], list[Photo]]  # to train on, to validate


def split(photos: Sequence[Photo], validation_share: float, seed: int) -> Parts:
    """Training and validation photographs, every class in the same proportion, and with one in both at least."""
    classes = [f"{photo.group}/{photo.class_name}" for photo in photos]
    rarest, count = min(Counter(classes).items(), key=lambda item: item[1])
    if count < 2:
        raise DataError(f"{rarest} has only one image; a split by class needs at least two")
    share = max(round(validation_share * len(photos)), len(set(classes)))
    if share >= len(photos) - len(set(classes)) + 1:
        raise DataError(f"{len(photos)} images in {len(set(classes))} classes are too few to set some apart")
    train, validation = train_test_split(photos, test_size=share, random_state=seed, stratify=classes)
    for part, other in ((validation, train), (train, validation)):
        for photo in _missing(part, other):
            other.remove(photo)
            part.append(photo)
    return train, validation


def _missing(part: Sequence[Photo], other: Sequence[Photo]) -> list[Photo]:
    """The first of `other` of every class that `part` has nothing of; rare ones fall to one side as a whole."""
    there = by_class(part)
    return [photos[0] for name, photos in sorted(by_class(other).items()) if name not in there]


def fold(photos: Sequence[Photo], number: int, count: int, seed: int) -> Parts:
    """The `number`-th (from 1) of `count` folds: every photograph validates in exactly one of them."""
    classes = [f"{photo.group}/{photo.class_name}" for photo in photos]
    rarest, images = min(Counter(classes).items(), key=lambda item: item[1])
    if images < count:
        raise DataError(f"{rarest} has {images} image(s); {count} folds need at least {count} of every class")
    folds = StratifiedKFold(count, shuffle=True, random_state=seed).split(classes, classes)
    train, validation = list(folds)[number - 1]
    return [photos[index] for index in train], [photos[index] for index in validation]


def bootstrap(photos: Sequence[Photo], number: int, seed: int) -> list[Photo]:
    """As many photographs of every class as there are, drawn with replacement; `number` (from 1) is the sample's.

    Each class is drawn within itself, so that a rare one does not lose all its images.
    """
    random = np.random.default_rng([seed, number])
    return [own[index] for own in by_class(photos).values() for index in random.integers(0, len(own), len(own))]


def parts_of(photos: Sequence[Photo], share: float, seed: int, folds: Sequence[int] | None = None) -> Parts:
    """By share, or by fold: `folds` is the fold's number and their count. Raises DataError."""
    return fold(photos, folds[0], folds[1], seed) if folds else split(photos, share, seed)
