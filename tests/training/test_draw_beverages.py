"""Drawings: the same seed gives the same files, another one others, and a label is more than its average colour."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from handlers import image
from training.captcha_dataset import scan
from training.draw_beverages import encoded
from training.drawings import scenes
from training.drawings.canvas import SIDE, ellipse
from training.drawings.drinks import DRINKS, UNSEEN_DRINKS, visible
from training.drawings.scenes import LABELS, WRITTEN_SIDE, Label, draw
from training.drawings.vessels import UNSEEN_VESSELS, VESSELS, Vessel, place


def numbered(label: Label, number: int, unseen: bool = False) -> np.ndarray:
    return draw(label, np.random.default_rng([5, number]), unseen)


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("label", LABELS)
def test_a_drawing_is_its_seeds(label: Label, unseen: bool) -> None:
    first, again, other = (numbered(label, number, unseen) for number in (1, 1, 2))
    assert first.shape == (WRITTEN_SIDE, WRITTEN_SIDE, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5
    assert encoded((label, 3), 0, unseen) == encoded((label, 3), 0, unseen) != encoded((label, 3), 1, unseen)


def test_a_drink_changes_the_vessel_and_nothing_else_tells() -> None:
    """Brightness and colour of whole pictures do not give the label away: their averages overlap."""
    pictures = {label: np.stack([numbered(label, n) for n in range(30)]).astype(float) for label in LABELS[:2]}
    empty, full = (pictures[label].mean(axis=(1, 2, 3)) for label in LABELS[:2])
    assert abs(empty.mean() - full.mean()) < empty.std()


def test_unclear_pictures_are_of_every_kind() -> None:
    """Dark, washed out, blurred: the mean, and what is left of fine detail, reach far beyond the other labels'."""
    unclear = np.stack([numbered("unclear", n) for n in range(40)])
    clear = np.stack([numbered(label, n) for label in LABELS[:2] for n in range(20)])
    assert unclear.mean(axis=(1, 2, 3)).min() < 20 < clear.mean(axis=(1, 2, 3)).min()
    assert unclear.mean(axis=(1, 2, 3)).max() > 240
    for draws in scenes.UNCLEAR.values():
        assert draws(np.random.default_rng(0), False).shape == (WRITTEN_SIDE, WRITTEN_SIDE, 3)


@pytest.mark.parametrize("vessel", [*VESSELS, *UNSEEN_VESSELS])
def test_a_vessel_lies_within_the_picture(vessel: Vessel) -> None:
    for number in range(20):
        random = np.random.default_rng(number)
        placed = place(vessel, random, random.uniform(*vessel.tilts), 0.8)
        for x, y, across, down in placed.rings():
            assert x - across >= 0
            assert x + across <= SIDE
            assert y - down >= 0
            assert y + down <= SIDE


def test_from_above_a_camera_sees_into_a_cup() -> None:
    cup = next(vessel for vessel in VESSELS if vessel.opaque)
    low, high = (place(cup, np.random.default_rng(0), tilt, 0.8) for tilt in (10, 88))
    assert visible(low, 0.5) < 0.2 < 0.9 < visible(high, 0.5)
    assert ellipse(high.inside).sum() > ellipse(low.inside).sum()


def test_what_is_unseen_is_in_no_other_drawing() -> None:
    assert not set(VESSELS) & set(UNSEEN_VESSELS)
    assert not set(DRINKS) & set(UNSEEN_DRINKS)


def test_the_script_writes_what_the_training_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training import draw_beverages

    target = tmp_path / "images"
    monkeypatch.setattr(sys, "argv", ["draw", "--output_dir", str(target), "--count", "2", "--seed", "4"])
    draw_beverages.main()
    assert capsys.readouterr().out == f"{target}: 2 drawings each of empty, with_beverage, unclear\n"
    photos = scan(target)
    assert [photo.group for photo in photos] == sorted(label for label in LABELS for _ in range(2))
    for photo in photos:
        number = int(photo.path.stem.rpartition("_")[2])
        assert photo.path.read_bytes() == encoded((next(x for x in LABELS if x == photo.group), number), 4, False)
        assert image.decode(photo.path.read_bytes()).shape == (WRITTEN_SIDE, WRITTEN_SIDE, 3)
    assert cv2.imread(str(photos[0].path)) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", "0"], "--count must be at least 1"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--seed", "-1"], "--seed must be at least 0"),
        ([], "exists; choose another --output_dir or remove it"),
    ],
)
def test_mistakes(options: list[str], message: str, tmp_path: Path) -> None:
    from training.cli import DataError
    from training.draw_beverages import main

    with pytest.raises(DataError, match=message):
        main(["--output_dir", str(tmp_path), *options])
