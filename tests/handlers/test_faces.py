"""Faces are found wherever and however large a picture is, and nothing of one is left in a mosaic."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import image
from handlers.errors import SpecError
from handlers.faces import CELLS, MOST_SEARCHED, SMALLEST_CELL, Box, Finder, mosaic
from tests.images import photo
from tests.paths import CASCADE, FACE

FACES = image.decode(FACE.read_bytes())  # one, (360, 320, 3)


@pytest.fixture(scope="module")
def finder() -> Finder:
    return Finder(CASCADE)


def close(found: Box, expected: Box) -> bool:
    return np.allclose(found, expected, atol=max(expected) / 12)


def test_one_face_is_found_where_it_is(finder: Finder) -> None:
    (box,) = finder.find(FACES)
    assert close(box, Box(70, 76, 180, 180))
    assert finder.find(photo(240, 320)) == []


def test_a_large_picture_is_searched_on_a_smaller_copy(finder: Finder) -> None:
    """The boxes are those of the picture itself."""
    (small,) = finder.find(FACES)
    large = cv2.resize(FACES, None, fx=8, fy=8).astype(np.uint8)
    assert large.size // 3 > 10 * MOST_SEARCHED
    (box,) = finder.find(large)
    assert close(box, Box(*(8 * side for side in small)))


def test_the_largest_comes_first(finder: Finder) -> None:
    ground = np.full((720, 640, 3), 128, np.uint8)
    half = cv2.resize(FACES, None, fx=0.5, fy=0.5)
    ground[20 : 20 + half.shape[0], 20 : 20 + half.shape[1]] = half
    ground[340:700, 300:620] = FACES
    boxes = finder.find(ground)
    assert len(boxes) == 2
    assert close(boxes[0], Box(370, 416, 180, 180))
    assert close(boxes[1], Box(55, 58, 90, 90))


@pytest.mark.parametrize("shape", [(1, 1), (1, 100_000), (100_000, 1), (19, 19), (20, 20), (5, 3_000)])
def test_odd_pictures_have_no_faces(finder: Finder, shape: tuple[int, int]) -> None:
    assert finder.find(np.zeros((*shape, 3), np.uint8)) == []


def test_several_threads_at_once(finder: Finder) -> None:
    """OpenCV's classifier is for one at a time."""
    with ThreadPoolExecutor(4) as threads:
        pictures = [FACES, FACES[:, ::-1].copy()] * 8
        found = list(threads.map(finder.find, pictures))
    assert [finder.find(picture) for picture in pictures] == found


@pytest.mark.parametrize(
    "content", [None, b"", b"no XML", b"<?xml version='1.0'?><opencv_storage><a>1</a></opencv_storage>"]
)
def test_no_cascade(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "c.xml").write_bytes(content)
    with pytest.raises(SpecError, match=r"handler\.cascade: c\.xml is no cascade of OpenCV's"):
        Finder(tmp_path / "c.xml")


def colours(part: image.Pixels) -> int:
    return len(np.unique(part.reshape(-1, 3), axis=0))


@pytest.mark.parametrize(("side", "cells"), [(8, 1), (20, 1), (26, 2), (76, 6), (190, 14), (240, 16), (400, 16)])
def test_how_many_cells_a_face_gets(side: int, cells: int) -> None:
    """None under 16 pixels: of a small face 16 x 16 cells would show everything."""
    y, x = np.mgrid[0:600, 0:600] * 255 // 600
    picture = np.stack([x, y, x * 0], axis=-1).astype(np.uint8)  # no two cells of it are alike
    hidden = mosaic(picture, [Box(90, 80, side, side)])
    margin = -(-side // 8)
    part = hidden[80 - margin : 80 + side + margin, 90 - margin : 90 + side + margin]
    assert colours(part) == cells * cells
    assert cells == max(1, min(CELLS, (side + 2 * margin) // SMALLEST_CELL))
    rest = hidden != picture
    rest[80 - margin : 80 + side + margin, 90 - margin : 90 + side + margin] = False
    assert not rest.any()


@given(st.integers(-5, 60), st.integers(-5, 60), st.integers(1, 80), st.integers(1, 80), st.integers(0, 9))
def test_boxes_at_the_edges(x: int, y: int, width: int, height: int, seed: int) -> None:
    """A box that has a pixel of the picture hides all of its own there; the picture that came stays as it is."""
    picture = photo(64, 64, noise=60, seed=seed)
    before = picture.copy()
    x, y = min(max(x, 0), 63), min(max(y, 0), 63)
    hidden = mosaic(picture, [Box(x, y, width, height)])
    assert hidden.shape == picture.shape
    assert (picture == before).all()
    part = hidden[y : y + height, x : x + width]
    assert colours(part) <= CELLS * CELLS
    assert colours(part) <= (part.shape[0] // SMALLEST_CELL + 2) * (part.shape[1] // SMALLEST_CELL + 2)
