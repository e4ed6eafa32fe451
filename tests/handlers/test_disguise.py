"""Disguised images: other bytes at every call, the same subject to the eye, and nothing of the source's metadata."""

from __future__ import annotations

import hashlib
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from handlers.disguise import SIDE, disguise
from handlers.image import Pixels
from tests.images import corners, encode, photo, png


def disc(height: int, width: int) -> Pixels:
    """An orange disc on light grey, in the centre."""
    pixels = np.full((height, width, 3), 225, np.uint8)
    cv2.circle(pixels, (width // 2, height // 2), max(1, min(height, width) // 3), (230, 120, 20), thickness=-1)
    return pixels


def opened(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert image.mode == "RGB"
        assert not image.getexif()
        assert not {"exif", "comment", "icc_profile", "xmp"} & set(image.info)
        return np.asarray(image)


def clear_around_disc(kind: str) -> bytes:
    pixels = disc(120, 120)
    alpha = np.where((pixels == 225).all(axis=-1), 0, 255).astype(np.uint8)
    return encode(Image.fromarray(np.dstack([pixels, alpha])), kind)


def deep(pixels: Pixels) -> np.ndarray:
    """16 bits, whose lower half says nothing of the picture."""
    return pixels.astype(np.uint16) * 256 + 77


DISC = disc(120, 120)
SOURCES = {
    "JPEG": encode(DISC, "JPEG", quality=95),
    "PNG": encode(DISC, "PNG"),
    "WebP": encode(DISC, "WEBP"),
    "16-bit PNG": png(deep(DISC), 16, 2),
    "16-bit PNG with alpha": png(deep(np.dstack([DISC, np.full((120, 120), 255, np.uint8)])), 16, 6),
    "PNG with alpha": clear_around_disc("PNG"),
    "WebP with alpha": clear_around_disc("WEBP"),
    "palette": encode(Image.fromarray(DISC).quantize(8), "PNG"),
    "palette with transparency": encode(Image.fromarray(DISC).quantize(8), "PNG", transparency=7),
    "CMYK JPEG": encode(Image.fromarray(DISC).convert("CMYK"), "JPEG", quality=95),
    "large": encode(disc(1500, 1700), "JPEG"),
    "tiny": encode(disc(16, 16), "PNG"),
    "wide": encode(disc(60, 600), "PNG"),
    "tall": encode(disc(600, 60), "PNG"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_subject_stays_recognisable(name: str) -> None:
    expected = cv2.resize(disc(120, 120), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    for _ in range(5):
        pixels = opened(disguise(SOURCES[name]))
        assert pixels.shape == (SIDE, SIDE, 3)
        centre, rim = pixels[90:110, 90:110].mean(axis=(0, 1)), pixels[:8].mean(axis=(0, 1))
        np.testing.assert_allclose(
            centre, (230, 120, 20), atol=80
        )  # hue, saturation, contrast, brightness at their limits
        assert rim.min() > 105  # still light, whatever the new background
        # Blue is what tells disc and ground apart; a shift of some pixels costs little correlation.
        assert np.corrcoef(pixels[..., 2].ravel(), expected[..., 2].ravel())[0, 1] > 0.4


@pytest.mark.parametrize("name", ["8-bit grey", "16-bit grey", "grey with alpha", "1 bit"])
def test_grey_sources_stay_grey(name: str) -> None:
    grey = Image.fromarray(DISC).convert("L")
    data = {
        "8-bit grey": encode(grey, "PNG"),
        "16-bit grey": png(deep(np.asarray(grey)), 16, 0),
        "grey with alpha": encode(grey.convert("LA"), "PNG"),
        "1 bit": encode(grey.point(lambda value: 255 * (value > 180)).convert("1"), "PNG"),
    }[name]
    pixels = opened(disguise(data)).astype(int)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert np.abs(pixels - pixels.mean(axis=-1, keepdims=True)).mean() < 6
    assert pixels[:8].mean() - pixels[90:110, 90:110].mean() > 40


@pytest.mark.parametrize("name", ["PNG", "WebP with alpha"])
def test_no_two_are_the_same(name: str) -> None:
    digests = {hashlib.sha256(disguise(SOURCES[name])).hexdigest() for _ in range(30)}
    assert len(digests) == 30
    assert hashlib.sha256(SOURCES[name]).hexdigest() not in digests


def test_a_still_image_is_flipped_half_of_the_time() -> None:
    data = encode(np.repeat(np.linspace(0, 255, 100).astype(np.uint8)[None, :, None], 100, 0).repeat(3, 2), "PNG")
    brighter_left = sum(bool((p := opened(disguise(data)))[:, :50].mean() > p[:, 150:].mean()) for _ in range(60))
    assert 9 <= brighter_left <= 51  # outside: one in ten million


def test_the_background_of_a_drawing_changes() -> None:
    grounds = np.array([opened(disguise(SOURCES["PNG with alpha"]))[:8].mean(axis=(0, 1)) for _ in range(12)])
    assert grounds.std(axis=0).min() > 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied_and_metadata_gone(kind: str) -> None:
    """Orientation 6: what is stored as the left side is the top."""
    data = encode(corners(100, 100), kind, orientation=6, quality=95)
    pixels = opened(disguise(data)).astype(int)
    top, bottom = pixels[20:70, 20:180].mean(axis=(0, 1)), pixels[130:180, 20:180].mean(axis=(0, 1))
    assert top[1] < 90  # blue and red: no green
    assert bottom[1] > 150  # white and green


@pytest.mark.parametrize("side", [1, 50, 301])
def test_any_side(side: int) -> None:
    for source in (photo(1, 1), photo(1, 40), photo(33, 70)):
        assert opened(disguise(encode(source, "PNG"), side)).shape == (side, side, 3)


def test_fine_detail_of_a_large_picture_is_averaged() -> None:
    """Sampled at points, black and white noise would stay black and white."""
    noise = np.random.default_rng(0).integers(0, 2, (2000, 2000, 1), dtype=np.uint8).repeat(3, 2) * 255
    assert opened(disguise(encode(noise, "PNG"))).std() < 60


@pytest.mark.parametrize("data", [b"", b"text", SOURCES["PNG"][:200], SOURCES["WebP with alpha"][:60]])
def test_a_damaged_source_is_a_fault_of_ours(data: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        disguise(data)
