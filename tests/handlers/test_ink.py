"""Handwriting on any ground becomes white on black, scaled and centred: the same figure gives the same input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handlers import image, ink
from handlers.errors import InvalidContentError, RequestError, UnsupportedTypeError
from tests.handlers.drawings import INK, PAPER, seven
from tests.images import encode


def likeness(one: image.Pixels, other: image.Pixels) -> float:
    """Correlation of two inputs, at most 1."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture
def expected() -> image.Pixels:
    return ink.centre(seven(), 28)


def test_it_looks_like_mnist(expected: image.Pixels) -> None:
    assert expected.shape == (28, 28, 3)
    assert expected.dtype == np.uint8
    grey = expected[:, :, 0].astype(float)
    assert (expected == expected[:, :, :1]).all()
    assert (grey.min(), grey.max()) == (0, 255)
    rows, columns = np.flatnonzero(grey.sum(1)), np.flatnonzero(grey.sum(0))
    assert rows[-1] - rows[0] + 1 == 20  # the longer side
    assert columns[-1] - columns[0] + 1 < 20
    for axis in (0, 1):  # the centre of the mass lies in the middle, to half a pixel
        profile = grey.sum(axis)
        assert (profile * (np.arange(28) + 0.5)).sum() / profile.sum() == pytest.approx(14, abs=0.51)


@pytest.mark.parametrize("place", [(10, 12), (200, 160), (90, 10)])
@pytest.mark.parametrize("height", [40, 120, 130])
def test_place_and_size_do_not_matter(expected: image.Pixels, place: tuple[int, int], height: int) -> None:
    assert likeness(ink.centre(seven(place=place, height=height), 28), expected) > 0.85


@pytest.mark.parametrize(
    ("colour", "ground"), [(PAPER, INK), ((255, 255, 255), (0, 0, 0)), ((120, 120, 120), (190, 190, 190))]
)
def test_dark_on_light_or_light_on_dark(
    expected: image.Pixels, colour: tuple[int, int, int], ground: tuple[int, int, int]
) -> None:
    assert likeness(ink.centre(seven(ink=colour, ground=ground), 28), expected) > 0.97


def test_light_that_falls_off_and_noise_are_no_ink(expected: image.Pixels) -> None:
    shade: NDArray[np.float64] = np.linspace(0.55, 1, 300)[None, :, None] * np.ones((300, 1, 3))
    noise = np.random.default_rng(0).normal(0, 8, (300, 300, 1))
    photo = np.clip(seven() * shade + noise, 0, 255).astype(np.uint8)
    assert likeness(ink.load(encode(photo, "JPEG", quality=80), 28), expected) > 0.93


def test_dust_and_what_runs_off_the_picture_are_left_out(expected: image.Pixels) -> None:
    picture = seven()
    picture[:, :14] = (30, 30, 30)  # the table beside the paper
    picture[250:252, 40:42] = (30, 30, 30)
    assert likeness(ink.centre(picture, 28), expected) > 0.99


def test_ink_that_reaches_the_border_counts_where_there_is_no_other(expected: image.Pixels) -> None:
    cut = seven()[76:207, 84:177]  # into the pen
    assert likeness(ink.centre(cut, 28), expected) > 0.98


def test_what_mnist_prepared_stays_as_it_is() -> None:
    """To the half pixel that its centre may lie elsewhere."""
    prepared = ink.centre(seven(ink=(255, 255, 255), ground=(0, 0, 0)), 28)
    assert likeness(ink.centre(prepared, 28), prepared) > 0.99


@pytest.mark.parametrize("value", [0, 128, 255])
def test_nothing_but_ground(value: int) -> None:
    blank = np.full((50, 40, 3), value, np.uint8)
    noise = np.random.default_rng(0).integers(0, 12, blank.shape)
    for picture in (blank, np.clip(blank.astype(int) + noise, 0, 255).astype(np.uint8)):
        with pytest.raises(InvalidContentError, match="no ink"):
            ink.centre(picture, 28)


@pytest.mark.parametrize("size", [16, 28, 64])
def test_other_sizes(size: int) -> None:
    centred = ink.load(encode(seven(), "PNG"), size)
    assert centred.shape == (size, size, 3)
    assert np.count_nonzero(centred[:, :, 0].sum(1)) == round(size * 20 / 28)


def test_a_file_that_is_no_image() -> None:
    with pytest.raises(UnsupportedTypeError):
        ink.load(b"GIF89a", 28)


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_any_picture_gives_an_input_or_an_error(height: int, width: int, seed: int, most: int) -> None:
    picture = np.random.default_rng(seed).integers(0, most + 1, (height, width, 3), dtype=np.uint8)
    try:
        centred = ink.centre(picture, 28)
    except RequestError:
        return
    assert centred.shape == (28, 28, 3)
    assert centred.max() == 255
