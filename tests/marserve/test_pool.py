"""`marserve pool build`: which images make it into a pool, and what is left of them there."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.image import Pixels
from handlers.pool import Pool
from marserve.errors import MarserveError
from marserve.pool import DISAGREES, DUPLICATE, KEPT, SMALL, UNREADABLE, UNSURE, build_pool, difference_hash
from tests.export.models import pack_red_or_blue
from tests.images import encode, photo


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red pictures are animals, blue ones objects."""
    return pack_red_or_blue(tmp_path_factory.mktemp("archive"))


def tinted(channel: int, seed: int, side: int = 96) -> Pixels:
    """A structured picture with most of its light in one channel."""
    random = np.random.default_rng(seed)
    cells = random.integers(0, 60, (12, 12, 3), np.uint8)
    pixels = np.kron(cells, np.ones((side // 12 + 1, side // 12 + 1, 1), np.uint8))[:side, :side].copy()
    pixels[..., channel] += 150
    return pixels


def save(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good animals and objects, and one image for every way to be left out."""
    root = tmp_path / "images"
    for seed in range(3):
        save(root / "animal" / "fox" / f"secret_{seed}.jpg", encode(tinted(0, seed), "JPEG", orientation=6, quality=90))
        save(root / "object" / "jar" / f"secret_{seed}.png", encode(tinted(2, 10 + seed), "PNG"))
    save(root / "animal" / "fox" / "z_again.webp", encode(tinted(0, 0).transpose(1, 0, 2)[:, ::-1], "WEBP", quality=60))
    save(root / "animal" / "fox" / "z_blue.jpg", encode(tinted(2, 20), "JPEG"))
    save(root / "animal" / "fox" / "z_broken.jpg", encode(tinted(0, 21), "JPEG")[:-200])
    save(root / "animal" / "fox" / "z_tiny.png", encode(tinted(0, 22, side=16), "PNG"))
    save(root / "object" / "jar" / "z_grey.jpg", encode(photo(80, 80), "JPEG"))
    save(root / "object" / "jar" / "notes.txt", b"not an image")
    return root


def test_every_image_meets_its_fate(folder: Path, archive: Path, tmp_path: Path) -> None:
    output = tmp_path / "pool"
    counts = build_pool(folder, output, archive, 0.9, "Drawn by numpy.")
    assert counts == {KEPT: 6, DUPLICATE: 1, DISAGREES: 1, UNREADABLE: 1, SMALL: 1, UNSURE: 1}
    pool = Pool(output)
    assert pool.counts == {"animal": 3, "object": 3}
    assert pool.attribution == "Drawn by numpy."


def test_nothing_tells_where_an_image_came_from(folder: Path, archive: Path, tmp_path: Path) -> None:
    build_pool(folder, tmp_path / "pool", archive, 0.9, "")
    index = (tmp_path / "pool" / "pool.json").read_text()
    assert "secret" not in index
    assert "fox" not in index
    for entry in json.loads(index)["images"]:
        content = (tmp_path / "pool" / entry["file"]).read_bytes()
        assert not Image.open(io.BytesIO(content)).getexif()
        assert b"Exif" not in content


def test_large_images_are_stored_smaller(archive: Path, tmp_path: Path) -> None:
    for seed in range(2):
        save(tmp_path / "in" / "animal" / "a" / f"{seed}.jpg", encode(tinted(0, seed, side=1200), "JPEG"))
        save(tmp_path / "in" / "object" / "b" / f"{seed}.jpg", encode(tinted(2, 9 + seed, side=300)[:, :270], "JPEG"))
    build_pool(tmp_path / "in", tmp_path / "pool", archive, 0.5, "")
    sizes = {Image.open(io.BytesIO(path.read_bytes())).size for path in (tmp_path / "pool").glob("*.jpg")}
    assert sizes == {(256, 256), (256, 284)}


def test_an_image_that_only_the_model_can_decode_is_left_out(folder: Path, archive: Path, tmp_path: Path) -> None:
    """Long and narrow: few pixels at the scale that the model needs, too many at the one that is stored."""
    strip = np.tile(tinted(0, 30), (8, 240, 1))  # 768 x 23,040: 17.7 million pixels
    save(folder / "animal" / "fox" / "z_strip.jpg", encode(strip, "JPEG"))
    counts = build_pool(folder, tmp_path / "pool", archive, 0.9, "")
    assert counts[UNREADABLE] == 2
    assert counts[KEPT] == 6


def test_what_cannot_be_a_pool_is_told_and_nothing_is_written(folder: Path, archive: Path, tmp_path: Path) -> None:
    output = tmp_path / "pool"
    save(tmp_path / "few" / "animal" / "fox" / "1.jpg", encode(tinted(0, 1), "JPEG"))
    with pytest.raises(MarserveError, match="too few images are left"):
        build_pool(tmp_path / "few", output, archive, 0.9, "")
    with pytest.raises(MarserveError, match="nowhere: No such file"):
        build_pool(tmp_path / "nowhere", output, archive, 0.9, "")
    with pytest.raises(MarserveError, match="cannot be unpacked"):
        build_pool(folder, output, tmp_path / "no.mar", 0.9, "")
    save(folder / "plant" / "oak" / "1.jpg", encode(photo(80, 80), "JPEG"))
    with pytest.raises(MarserveError, match="knows the groups animal, object, not plant"):
        build_pool(folder, output, archive, 0.9, "")
    assert not output.exists()
    with pytest.raises(MarserveError, match="no folder that you may write to"):
        build_pool(folder, tmp_path / "no" / "pool", archive, 0.9, "")
    output.mkdir()
    with pytest.raises(MarserveError, match="exists already"):
        build_pool(folder, output, archive, 0.9, "")


def test_the_hash_is_near_for_copies_and_far_for_others() -> None:
    def distance(a: Pixels, b: Pixels) -> int:
        return int(np.bitwise_count(difference_hash(a) ^ difference_hash(b)).sum())

    picture, other = tinted(0, 1, side=240), tinted(0, 2, side=240)
    again = np.asarray(Image.open(io.BytesIO(encode(picture, "JPEG", quality=50))))
    smaller = np.asarray(Image.fromarray(picture).resize((100, 100)))
    assert distance(picture, again) <= 12
    assert distance(picture, smaller) <= 12
    assert distance(picture, other) > 60
