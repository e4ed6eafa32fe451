"""Photographs set apart: nothing lost, nothing twice, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.photos import write_photos
from training.captcha_dataset import Photo, scan
from training.cli import DataError
from training.hold_out import hold_out, main


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "images")


def keys(photos: list[Photo]) -> set[tuple[str, str, str]]:
    return {(photo.group, photo.class_name, photo.path.name) for photo in photos}


def test_the_parts_are_the_whole(data_dir: Path) -> None:
    photos = scan(data_dir)
    parts = hold_out(photos, 0.25, 1, seed=0)
    assert sum(map(len, parts.values())) == len(photos) == len(keys(photos))
    assert set.union(*map(keys, parts.values())) == keys(photos)
    known = {(photo.group, photo.class_name) for photo in parts["train"]}
    unseen = {(photo.group, photo.class_name) for photo in parts["unseen_classes"]}
    assert {group for group, _ in unseen} == {"animal", "object"}
    assert not known & unseen
    assert {(photo.group, photo.class_name) for photo in parts["test"]} == known
    assert [len(parts[name]) for name in ("train", "test", "unseen_classes")] == [18, 6, 24]
    assert hold_out(photos, 0.25, 1, seed=0) == parts
    assert any(hold_out(photos, 0.25, 1, seed=seed) != parts for seed in range(1, 5))


def test_as_a_command(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "data"
    before = {path: path.read_bytes() for path in data_dir.rglob("*.png")}
    main([f"--data_dir={data_dir}", f"--output_dir={output}", "--classes=1", "--share=0.25"])
    assert capsys.readouterr().out == (
        f"{output}/train: 18 images in 2 classes\n{output}/test: 6 images in 2 classes\n"
        f"{output}/unseen_classes: 24 images in 2 classes\n"
    )
    for part in output.iterdir():
        for photo in scan(part):
            assert photo.path.read_bytes() == before[data_dir / photo.group / photo.class_name / photo.path.name]
    assert {path: path.read_bytes() for path in data_dir.rglob("*.png")} == before
    assert [path.name for path in output.parent.iterdir()] == ["data"]
    with pytest.raises(DataError, match="exists; choose another --output_dir or remove it"):
        main([f"--data_dir={data_dir}", f"--output_dir={output}"])


def test_interrupted_it_leaves_nothing(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    (data_dir / "object" / "key" / "key_9.png").unlink()
    (data_dir / "object" / "key" / "key_9.png").symlink_to(data_dir / "gone.png")
    photos = [*scan(data_dir), Photo(data_dir / "gone.png", "object", "key")]
    monkeypatch.setattr("training.hold_out.scan", lambda _: photos)
    with pytest.raises(DataError, match=r"cannot write .*: No such file or directory"):
        main([f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'new' / 'data'}"])
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--share=0", "--share must lie between 0 and 1"),
        ("--share=nan", "--share must lie between 0 and 1"),
        ("--classes=-1", "--classes must not be negative"),
        ("--classes=2", r"animal has 2 class\(es\): to hold out 2, at least one more is needed"),
    ],
)
def test_mistakes(data_dir: Path, tmp_path: Path, option: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        main([f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'data'}", option])
    assert not (tmp_path / "data").exists()
