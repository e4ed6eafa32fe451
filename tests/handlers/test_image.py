"""Decoding: every common kind of file, close to a reference; refusals before and instead of wrong pixels."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from handlers import image
from handlers.errors import RequestError, TooLargeError, UndecodableError, UnsupportedTypeError
from handlers.image import Limits, Pixels
from tests.images import chunk, corners, encode, photo, pillow_pixels, png, png_header

KINDS = ("JPEG", "PNG", "WEBP")
PHOTO = photo(60, 90)
FILES = {
    "JPEG": encode(photo(480, 640), "JPEG"),
    "progressive JPEG": encode(photo(480, 640), "JPEG", progressive=True),
    "JPEG with restarts": encode(photo(240, 320), "JPEG", restart_marker_rows=1),
    "PNG": encode(photo(240, 320), "PNG"),
    "PNG with alpha": encode(Image.fromarray(photo(240, 320)).convert("RGBA"), "PNG"),
    "WebP": encode(photo(480, 640), "WEBP"),
    "lossless WebP": encode(photo(120, 160), "WEBP", lossless=True),
    "WebP with alpha": encode(Image.fromarray(np.dstack([PHOTO, PHOTO[..., :1]])), "WEBP"),
    "small JPEG": encode(PHOTO[:9, :7], "JPEG"),
    "small PNG": encode(PHOTO[:9, :7], "PNG"),
    "small WebP": encode(PHOTO[:9, :7], "WEBP"),
}


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean absolute difference in grey levels."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def on_white(picture: Image.Image) -> Pixels:
    rgba = picture.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))


def assert_pixels(pixels: Pixels) -> None:
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("kind", KINDS)
def test_media_type_is_that_of_the_bytes(kind: str) -> None:
    assert image.media_type(encode(PHOTO, kind)) == f"image/{kind.lower()}"


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(40), b"BM" + bytes(60), b"<svg/>", b"RIFF\0\0\0\0WAVE"])
def test_other_types_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedTypeError):
        image.decode(data)


@pytest.mark.parametrize("kind", KINDS)
def test_decodes_as_pillow_does(kind: str) -> None:
    data = encode(PHOTO, kind)
    assert difference(image.decode(data), pillow_pixels(data)) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), *((k, m) for k in KINDS[1:] for m in ("RGB", "RGBA"))])
def test_every_orientation_comes_out_upright(kind: str, mode: str, orientation: int) -> None:
    stored = Image.fromarray(corners(24, 40)).convert(mode)
    options = {"subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = encode(stored, kind, orientation, **options)
    with Image.open(io.BytesIO(data)) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert difference(image.decode(data), upright) < 3


def test_orientation_holds_at_reduced_scale() -> None:
    pixels = image.decode(encode(corners(160, 320), "JPEG", orientation=6), shorter_side=20)
    assert pixels.shape == (80, 40, 3)
    assert difference(pixels, np.rot90(corners(40, 80), -1)) < 6


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encode(Image.fromarray(PHOTO).convert("L"), "PNG"), None, id="grey PNG"),
        pytest.param(encode(Image.fromarray(PHOTO).convert("L"), "JPEG"), None, id="grey JPEG"),
        pytest.param(encode(Image.fromarray(PHOTO).convert("L"), "WEBP"), None, id="grey WebP"),
        pytest.param(encode(Image.fromarray(PHOTO).convert("1"), "PNG"), None, id="1-bit PNG"),
        pytest.param(encode(Image.fromarray(PHOTO).quantize(16), "PNG"), None, id="palette"),
        pytest.param(png(PHOTO.astype(int) * 257, 16, 2), PHOTO, id="16-bit RGB"),
        pytest.param(png(PHOTO[..., 0].astype(int) * 257, 16, 0), PHOTO[..., [0, 0, 0]], id="16-bit grey"),
        pytest.param(
            png(PHOTO[..., 0].astype(int) * 257, 16, 0, chunk(b"tRNS", b"\x12\x34")),
            PHOTO[..., [0, 0, 0]],
            id="16-bit grey with a transparent value",
        ),
        pytest.param(png(np.dstack([PHOTO, PHOTO[..., 0] | 255]).astype(int) * 257, 16, 6), PHOTO, id="16-bit RGBA"),
    ],
)
def test_kinds_of_pixels(data: bytes, expected: Pixels | None) -> None:
    assert difference(image.decode(data), pillow_pixels(data) if expected is None else expected) < 1


def test_transparency_is_laid_on_white() -> None:
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 90).astype(np.uint8), (60, 1)))
    for mode in ("RGBA", "LA"):
        picture = Image.fromarray(PHOTO).convert(mode)
        picture.putalpha(ramp)
        assert difference(image.decode(encode(picture, "PNG")), on_white(picture)) < 1
    clear = Image.fromarray(PHOTO).convert("RGBA")
    clear.putalpha(0)
    for data in (encode(clear, "PNG"), encode(clear, "WEBP"), encode(clear, "WEBP", lossless=True)):
        assert image.decode(data).min() == 255
    palette = Image.fromarray(PHOTO).quantize(16)
    data = encode(palette, "PNG", transparency=3)
    with Image.open(io.BytesIO(data)) as opened:
        expected = on_white(opened)
    assert difference(expected, pillow_pixels(encode(palette, "PNG"))) > 1
    np.testing.assert_array_equal(image.decode(data), expected)


def test_cmyk_jpegs_are_close_to_pillows_conversion() -> None:
    data = encode(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", quality=95)
    assert difference(image.decode(data), pillow_pixels(data)) < 3


def test_of_animations_the_first_frame_is_taken() -> None:
    frames = [Image.fromarray(photo(30, 40, seed=seed)) for seed in range(3)]
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(image.decode(data), np.asarray(frames[0]))


def test_reduced_scale_is_close_to_full_scale() -> None:
    data = encode(photo(500, 700), "JPEG")
    shapes = [image.decode(data, shorter_side=side).shape for side in (1, 126, 125, 63, 62, 32, 31, 8)]
    assert [shape[0] for shape in shapes] == [500, 500, 250, 250, 125, 125, 63, 63]
    for size in (20, 50, 100):
        full = image.resize_and_crop(image.decode(data), size)
        assert difference(image.load(data, size), full) < 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_only_jpegs_are_reduced(kind: str) -> None:
    assert image.decode(encode(photo(200, 300), kind), shorter_side=8).shape == (200, 300, 3)


def test_too_many_bytes_are_refused() -> None:
    data = encode(PHOTO, "JPEG")
    image.decode(data, Limits(max_bytes=len(data)))
    with pytest.raises(TooLargeError, match=f"at most {len(data) - 1:,}"):
        image.decode(data, Limits(max_bytes=len(data) - 1))


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_pixels_are_refused(kind: str) -> None:
    data = encode(PHOTO, kind)
    image.decode(data, Limits(max_pixels=60 * 90))
    with pytest.raises(TooLargeError, match="90x60"):
        image.decode(data, Limits(max_pixels=60 * 90 - 1))


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def hiding_its_size(data: bytes, width: int, height: int) -> bytes:
    """libjpeg skips a stuffed 0xFF00 and reads on; a reader that takes it for a segment finds the small size only."""
    at = data.index(b"\xff\xc0")
    small = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
    big = with_jpeg_size(small, width, height)
    comment = b"\xff\xfe" + struct.pack(">H", len(small) + 2)
    hidden = struct.pack(">H", 2 + len(big + comment)) + big + comment
    return b"\xff\xd8\xff\x00" + hidden + small + data[2:at] + data[at + len(small) :]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_header(60_000, 60_000) + chunk(b"IDAT", bytes(9)), id="PNG"),
        pytest.param(with_jpeg_size(FILES["small JPEG"], 60_000, 60_000), id="JPEG"),
        pytest.param(hiding_its_size(FILES["small JPEG"], 60_000, 60_000), id="JPEG that hides its size"),
        pytest.param(b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x5f\xea\0" * 2, id="WebP"),
    ],
)
def test_what_claims_to_be_huge_is_refused_undecoded(data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(TooLargeError, match="60000x60000"):
        image.decode(data)
    assert time.process_time() - began < 0.1


def test_endless_segments_are_not_walked() -> None:
    began = time.process_time()
    with pytest.raises(UndecodableError, match="no size"):
        image.decode(b"\xff\xd8" + b"\xff\xfe\0\2" * 4_000_000)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("trailer", [b"x", b"\xff\xda", b"\xff\xd9\xff\xda" + bytes(50), FILES["small JPEG"][:-40]])
def test_what_follows_a_jpegs_end_does_not_matter(trailer: bytes) -> None:
    """Phones append short films and further pictures."""
    np.testing.assert_array_equal(image.decode(FILES["JPEG"] + trailer), image.decode(FILES["JPEG"]))


def test_a_thumbnail_is_not_mistaken_for_the_image() -> None:
    thumbnail = b"Exif\0\0" + FILES["small JPEG"]
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = FILES["JPEG"][:2] + segment + FILES["JPEG"][2:]
    assert image.decode(data).shape == (480, 640, 3)
    with pytest.raises(TooLargeError, match="640x480"):
        image.decode(data, Limits(max_pixels=1000))
    with pytest.raises(UndecodableError):  # the thumbnail has an end, the image none
        image.decode(data[:-2000])


def cuts(name: str) -> list[int]:
    """A few at the start, many over the whole file, every one close to the end."""
    length = len(FILES[name])
    return sorted({*range(12, 60, 7), *range(60, length, length // 25), *range(length - 14, length)})


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_never_gives_part_of_the_picture(name: str) -> None:
    whole = image.decode(FILES[name])
    refused = 0
    for cut in cuts(name):
        try:
            pixels = image.decode(FILES[name][:cut])
        except UndecodableError:
            refused += 1
        else:  # a PNG may lack its closing chunk
            np.testing.assert_array_equal(pixels, whole)
            assert cut >= len(FILES[name]) - 40
    assert refused >= len(cuts(name)) - 15


@pytest.mark.parametrize("name", [name for name in FILES if "JPEG" in name])
def test_a_jpeg_without_its_end_is_refused(name: str) -> None:
    with pytest.raises(UndecodableError, match="cut short"):
        image.decode(FILES[name][:-1])


@pytest.mark.parametrize("name", [name for name in FILES if "JPEG" in name])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_download_that_stopped_and_left_zeros_is_refused(name: str, share: float) -> None:
    """OpenCV alone would return part of the picture and grey."""
    data = FILES[name]
    with pytest.raises(UndecodableError, match="damaged"):
        image.decode(data[: int(share * len(data))] + bytes(len(data)))


def only_pixels_or_request_errors(decode: Callable[[], Pixels]) -> None:
    with suppress(RequestError):
        assert_pixels(decode())


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(FILES)), st.floats(0, 1))
def test_any_prefix(name: str, share: float) -> None:
    data = FILES[name]
    only_pixels_or_request_errors(lambda: image.decode(data[: int(share * len(data))], shorter_side=40))


@settings(deadline=None, max_examples=250)
@given(
    st.sampled_from([name for name in FILES if name.startswith("small") or "alpha" in name]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    st.booleans(),
)
def test_any_damage(name: str, changes: list[tuple[float, int]], in_header: bool) -> None:
    damaged = bytearray(FILES[name])
    for place, value in changes:
        damaged[int(place * min(len(damaged), 200 if in_header else len(damaged)))] = value
    only_pixels_or_request_errors(lambda: image.load(bytes(damaged), 24, Limits(max_pixels=200_000)))


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", png_header(3, 2), b"RIFF\0\1\0\0WEBPVP8X"]),
    st.binary(max_size=200),
)
@example(b"\xff\xd8\xff", b"\xc0\0\0")
@example(b"\xff\xd8\xff", b"\xc0\0\x11\x08\0\0\0\0" + bytes(20))
@example(b"\x89PNG\r\n\x1a\n", b"")
@example(b"RIFF\0\1\0\0WEBP", b"VP8L")
def test_any_bytes(start: bytes, rest: bytes) -> None:
    only_pixels_or_request_errors(lambda: image.decode(start + rest, Limits(max_pixels=200_000)))


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40))
@example(1, 1000, 32)
@example(1000, 1, 32)
@example(1, 1, 7)
def test_resize_and_crop_keeps_the_centre(height: int, width: int, size: int) -> None:
    """The pixels' values tell their place: the centre must come out in the middle, the shorter side whole."""
    y, x = np.mgrid[0:height, 0:width]
    place = np.stack([(y + 0.5) / height, (x + 0.5) / width, np.zeros((height, width))], axis=-1) * 255
    pixels = image.resize_and_crop(place.round().astype(np.uint8), size)
    assert_pixels(pixels)
    assert pixels.shape == (size, size, 3)
    assert pixels.flags.c_contiguous
    # The cut may be off by one pixel of the result and one of the source.
    shorter = min(height, width)
    for axis, extent in ((0, height), (1, width)):
        off = abs(pixels[..., axis].mean() / 255 - 0.5) * extent
        assert off <= 1 + shorter / size


def test_resize_and_crop_leaves_a_fitting_picture_alone() -> None:
    np.testing.assert_array_equal(image.resize_and_crop(PHOTO, 60), PHOTO[:, 15:75])


def test_shrinking_averages() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert abs(image.resize_and_crop(stripes, 16).astype(int) - 127).max() <= 1


@pytest.mark.parametrize("side", [(1, 65_000), (65_000, 1)])
def test_a_line_is_not_blown_up(side: tuple[int, int]) -> None:
    """Scaled whole it would take 224 x 14,560,000 pixels, nearly 10 GB."""
    data = encode(np.full((*side, 3), (10, 200, 30), np.uint8), "JPEG", quality=95)
    began = time.process_time()
    pixels = image.load(data, 224)
    assert time.process_time() - began < 1
    assert pixels.shape == (224, 224, 3)
    assert difference(pixels, np.full_like(pixels, 0) + np.array((10, 200, 30), np.uint8)) < 3
