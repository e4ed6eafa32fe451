"""The split by class and the folds: stratified, complete, seeded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.training.photos import write_photos
from training.captcha_dataset import Photo, scan
from training.cli import DataError
from training.splits import fold, parts_of, split


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    return scan(write_photos(tmp_path / "images"))


def test_split_is_stratified_and_complete(photos: list[Photo]) -> None:
    train, validation = split(photos, 0.25, seed=0)
    assert Counter(photo.class_name for photo in validation) == dict.fromkeys(("cat", "dog", "cup", "key"), 3)
    assert Counter(train + validation) == Counter(photos)


def test_every_class_is_validated_however_small_the_share(photos: list[Photo]) -> None:
    _, validation = split(photos, 0.01, seed=0)
    assert sorted(photo.class_name for photo in validation) == ["cat", "cup", "dog", "key"]


def test_split_follows_its_seed(photos: list[Photo]) -> None:
    assert split(photos, 0.25, seed=1) == split(photos, 0.25, seed=1)
    assert set(split(photos, 0.25, seed=1)[1]) != set(split(photos, 0.25, seed=2)[1])


def test_too_few_to_split(photos: list[Photo]) -> None:
    with pytest.raises(DataError, match="animal/cat has only one image"):
        split(photos[11:], 0.25, seed=0)
    with pytest.raises(DataError, match="48 images in 4 classes are too few to set some apart"):
        split(photos, 0.95, seed=0)


def test_folds_are_stratified_and_complete(photos: list[Photo]) -> None:
    validated = []
    for number in (1, 2, 3):
        train, validation = fold(photos, number, 3, seed=0)
        assert sorted(train + validation, key=lambda photo: photo.path) == photos
        assert Counter(photo.class_name for photo in validation) == dict.fromkeys(("cat", "dog", "cup", "key"), 4)
        validated += validation
    assert sorted(validated, key=lambda photo: photo.path) == photos
    assert fold(photos, 1, 3, seed=1) != fold(photos, 1, 3, seed=0)


def test_parts_by_share_or_by_fold(photos: list[Photo]) -> None:
    assert parts_of(photos, 0.25, 0) == split(photos, 0.25, 0)
    assert parts_of(photos, 0.25, 0, [2, 3]) == fold(photos, 2, 3, 0)
