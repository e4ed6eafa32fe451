"""The photo folder: its layout, the split, the fingerprint, and items that look as they do in serving."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from handlers import image, ink
from tests.training.photos import CLASSES, encoded, write_photos
from training.captcha_dataset import CaptchaDataset, Photo, classes_of, fingerprint, main, scan
from training.cli import DataError

MEMBERS = {group: list(names) for group, names in CLASSES.items()}


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    return scan(write_photos(tmp_path / "images"))


def test_scan_finds_every_photo_in_order(photos: list[Photo]) -> None:
    found = Counter((photo.group, photo.class_name) for photo in photos)
    assert found == {(group, name): 12 for group, names in CLASSES.items() for name in names}
    assert [photo.path for photo in photos] == sorted(photo.path for photo in photos)
    assert all(photo.path.parts[-3:-1] == (photo.group, photo.class_name) for photo in photos)


def test_a_group_without_classes_is_its_own_class(tmp_path: Path) -> None:
    data_dir = write_photos(tmp_path / "images", per_class=1)
    for name in ("cat", "dog"):
        (data_dir / "animal" / name / f"{name}_1.png").rename(data_dir / "animal" / f"{name}.png")
        (data_dir / "animal" / name).rmdir()
    photos = scan(data_dir)
    found = [(photo.group, photo.class_name, photo.path.name) for photo in photos]
    assert found[:2] == [("animal", "animal", "cat.png"), ("animal", "animal", "dog.png")]
    assert classes_of(photos) == {"animal": ["animal"], "object": ["cup", "key"]}


def test_scan_takes_every_suffix_and_skips_what_is_no_photo(tmp_path: Path) -> None:
    data_dir = write_photos(tmp_path, per_class=1)
    cat = data_dir / "animal" / "cat"
    for name in ("a.JPG", "b.jpeg", "c.webp", "notes.txt", "._a.jpg", "noext"):
        (cat / name).touch()
    (cat / "folder.jpg").mkdir()
    for hidden in (data_dir / ".cache", data_dir / "animal" / ".thumbnails"):
        hidden.mkdir()
    names = [photo.path.name for photo in scan(data_dir) if photo.class_name == "cat"]
    assert names == ["a.JPG", "b.jpeg", "c.webp", "cat_1.png"]


def test_wrong_layouts_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing is not a folder; expected .*<group>/<class>"):
        scan(tmp_path / "missing")
    with pytest.raises(DataError, match=r"has 0 group\(s\) with images; a classifier needs at least two"):
        scan(tmp_path)
    data_dir = write_photos(tmp_path / "images", per_class=1)
    shutil.copy(data_dir / "animal" / "cat" / "cat_1.png", data_dir / "animal")
    with pytest.raises(DataError, match=r"animal holds images itself; they belong one level down"):
        scan(data_dir)
    (data_dir / "animal" / "cat_1.png").unlink()
    (data_dir / "animal" / "lion").mkdir()
    with pytest.raises(DataError, match=r"lion holds no images .*fill it or remove it"):
        scan(data_dir)
    shutil.rmtree(data_dir / "animal")
    with pytest.raises(DataError, match=r"has 1 group\(s\)"):
        scan(data_dir)


def test_fingerprint_depends_on_names_and_bytes_only(tmp_path: Path, photos: list[Photo]) -> None:
    before = fingerprint(photos)
    assert len(before) == 64
    assert fingerprint(scan(shutil.copytree(tmp_path / "images", tmp_path / "else" / "where"))) == before

    path = photos[5].path
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert fingerprint(photos) != before
    path.write_bytes(data)
    assert fingerprint(photos) == before

    path.rename(path.with_name(f"{path.stem}a.png"))
    renamed = scan(tmp_path / "images")
    assert renamed[5].path.read_bytes() == data  # the order is the same, only the name differs
    assert fingerprint(renamed) != before


def test_fingerprint_takes_names_that_are_no_text(tmp_path: Path) -> None:
    data_dir = write_photos(tmp_path, per_class=1)
    (data_dir / "animal" / "cat" / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    assert len(fingerprint(scan(data_dir))) == 64


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("side", [(40, 40), (50, 90), (300, 200), (20, 33)])
def test_an_item_is_what_the_handlers_see(tmp_path: Path, kind: str, side: tuple[int, int]) -> None:
    data = encoded("disc", (220, 40, 40), side, kind, seed=1)
    path = tmp_path / "photo"
    path.write_bytes(data)
    pixels, label = CaptchaDataset([Photo(path, "object", "cup")], MEMBERS, 32)[0]
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 32, 32)
    assert label == 2  # after cat and dog
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), image.load(data, 32))
    assert pixels[0, 16, 16] > 150 > pixels[2, 16, 16]  # red comes first


def test_augmentation_gets_the_whole_image(tmp_path: Path) -> None:
    data = encoded("box", (40, 40, 220), (50, 90), "PNG", seed=1)
    path = tmp_path / "photo"
    path.write_bytes(data)
    photo = Photo(path, "animal", "cat")
    whole, label = CaptchaDataset([photo], MEMBERS, 32, augment=v2.Identity())[0]
    assert (whole.dtype, whole.shape, label) == (torch.uint8, (3, 50, 90), 0)
    np.testing.assert_array_equal(whole.permute(1, 2, 0).numpy(), image.decode(data))
    mirrored, _ = CaptchaDataset([photo], MEMBERS, 32, augment=v2.RandomHorizontalFlip(p=1))[0]
    assert torch.equal(mirrored, whole.flip(2))


def test_length_and_labels(photos: list[Photo]) -> None:
    data_set = CaptchaDataset(photos, MEMBERS, 32)
    assert len(data_set) == 48
    assert [data_set[item][1] for item in (0, 11, 12, 24, 47)] == [0, 0, 1, 2, 3]


def test_a_class_name_may_stand_in_two_groups(photos: list[Photo]) -> None:
    paths = photos[0].path, photos[-1].path
    twins = [Photo(path, group, "toy") for path, group in zip(paths, ("animal", "object"), strict=True)]
    assert classes_of(twins) == {"animal": ["toy"], "object": ["toy"]}
    data_set = CaptchaDataset(twins, classes_of(twins), 32)
    assert [data_set[item][1] for item in range(2)] == [0, 1]


def test_classes_are_sorted(photos: list[Photo]) -> None:
    assert list(classes_of(photos[::-1]).items()) == [("animal", ["cat", "dog"]), ("object", ["cup", "key"])]


@pytest.mark.parametrize("augment", [None, v2.Identity()])
def test_ink_is_varied_as_it_is_served(tmp_path: Path, augment: v2.Transform | None) -> None:
    data = encoded("disc", (220, 220, 220), (50, 90), "PNG", seed=1)
    path = tmp_path / "photo"
    path.write_bytes(data)
    pixels, _ = CaptchaDataset([Photo(path, "animal", "cat")], MEMBERS, 28, augment, "ink")[0]
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), ink.load(data, 28))


@pytest.mark.parametrize("augment", [None, v2.Identity()])
def test_a_damaged_photo_is_named(tmp_path: Path, augment: v2.Transform | None) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(encoded("disc", (220, 40, 40), (40, 40), "JPEG", seed=1)[:-200])
    with pytest.raises(DataError, match=r"bad\.jpg: the image/jpeg data is damaged or cut short"):
        CaptchaDataset([Photo(path, "animal", "cat")], MEMBERS, 32, augment)[0]


def test_as_a_script_it_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--data_dir", str(write_photos(tmp_path, per_class=2))])
    assert capsys.readouterr().out.splitlines() == [
        "animal: 4 images",
        "  cat: 2",
        "  dog: 2",
        "object: 4 images",
        "  cup: 2",
        "  key: 2",
        "total: 8 images, 4 classes, 2 groups",
    ]
