"""Pictures in rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marserve.contact_sheet import COLUMNS, SIDE, Tile, draw
from marserve.errors import MarserveError
from tests.export.models import flat
from tests.images import encode

BLUE = (21, 101, 192)  # of a frame


@pytest.fixture
def red(tmp_path: Path) -> Path:
    (tmp_path / "red.png").write_bytes(encode(np.tile(flat(200, 0, 0), (2, 4, 1)), "PNG"))  # twice as wide as high
    return tmp_path / "red.png"


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(path).convert("RGB"))


def test_every_picture_has_its_place(red: Path, tmp_path: Path) -> None:
    tiles = [Tile(red, f"{n}", "red.png", framed=n == 0) for n in range(COLUMNS + 1)]
    draw(tiles, tmp_path / "sheet.png")
    drawn = pixels(tmp_path / "sheet.png")
    pure = (drawn == (200, 0, 0)).all(axis=-1)
    assert pure.sum() == (COLUMNS + 1) * SIDE * SIDE // 2  # each fills its width, and keeps its shape
    assert pure.any(axis=0).sum() == COLUMNS * SIDE
    assert pure.any(axis=1).sum() == 2 * SIDE // 2
    framed = (drawn == BLUE).all(axis=-1)
    assert framed.any()
    assert not framed[:, SIDE + 20 :].any()


def test_fewer_pictures_than_a_row_has(red: Path, tmp_path: Path) -> None:
    draw([Tile(red, "", "")], tmp_path / "one.webp")
    assert pixels(tmp_path / "one.webp").shape[1] < 2 * SIDE


@pytest.mark.parametrize("missing", ["missing", ""])
def test_what_cannot_be_shown_is_written_out(missing: str, tmp_path: Path) -> None:
    """A file that is gone, told beforehand or not."""
    draw([Tile(tmp_path / "gone.jpg", "1", "gone.jpg", missing)], tmp_path / "sheet.png")
    drawn = pixels(tmp_path / "sheet.png")[12 : 12 + SIDE, 12 : 12 + SIDE]
    ink = (drawn != drawn[0, 0]).any(axis=-1)
    assert ink.any()
    assert not ink[: SIDE // 3].any()


def test_a_long_name_keeps_its_end_and_its_column(red: Path, tmp_path: Path) -> None:
    draw([Tile(red, "a", "x" * 300), Tile(red, "", "")], tmp_path / "sheet.png")
    between = pixels(tmp_path / "sheet.png")[SIDE + 12 :, SIDE + 12 : SIDE + 24]
    assert (between == 255).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sheet.pdfx", "name it .png, .jpg or .webp"),
        ("sheet", "name it"),
        ("no/sheet.png", "No such file"),
        (".", "name"),
    ],
)
def test_where_it_cannot_be_written(name: str, message: str, red: Path, tmp_path: Path) -> None:
    with pytest.raises(MarserveError, match=message):
        draw([Tile(red, "", "")], tmp_path / name)
