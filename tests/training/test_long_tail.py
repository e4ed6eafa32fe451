"""A long tail: its profile, its test part, its seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.photos import write_photos
from training.captcha_dataset import Photo, scan
from training.cli import DataError
from training.long_tail import counts, cut, main

PHOTOS = [Photo(Path(f"{name}/{n}.png"), "all", name) for name in "abcde" for n in range(60)]


@given(st.integers(2, 40), st.integers(2, 5), st.integers(5, 2000))
def test_counts_fall_from_the_most_to_the_least(classes: int, least: int, most: int) -> None:
    found = counts(classes, most, least)
    assert (len(found), found[0], found[-1]) == (classes, most, least)
    assert found == sorted(found, reverse=True)


def test_the_parts_share_nothing() -> None:
    parts = cut(PHOTOS, 4, 3, 10, seed=0)
    assert set(Counter(photo.class_name for photo in parts["test"]).values()) == {10}
    assert sorted(Counter(photo.class_name for photo in parts["train"]).values(), reverse=True) == [50, 20, 8, 3]
    assert len({photo.path for part in parts.values() for photo in part}) == sum(map(len, parts.values()))
    assert cut(PHOTOS, 4, 3, 10, seed=0) == parts
    assert cut(PHOTOS, 4, 3, 10, seed=1) != parts


def test_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir, output = write_photos(tmp_path / "images"), tmp_path / "tail"
    main([f"--data_dir={data_dir}", f"--output_dir={output}", "--classes=3", "--test=2", "--least=2"])
    assert len(scan(output / "train")) == 10 + 4 + 2
    assert {photo.group for photo in scan(output / "test")} == {photo.group for photo in scan(output / "train")}
    assert capsys.readouterr().out.startswith(f"{output}/train: 16 images (")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes=5"], "there are 4 classes: --classes 5 are too many"),
        (["--classes=3", "--test=10"], "the smallest class has 12 images: too few for --test 10 and --least 3"),
        (["--least=1"], "--least must be at least 2"),
    ],
)
def test_what_there_is_too_little_for(tmp_path: Path, options: list[str], message: str) -> None:
    data_dir = write_photos(tmp_path / "images")
    with pytest.raises(DataError, match=message):
        main([f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'tail'}", *options])
    assert not (tmp_path / "tail").exists()
