"""Bytes of a JPEG, PNG or WebP -> uint8 RGB pixels. Knows nothing of models, TorchServe or files.

Training reads its images through this module too, so what a network sees in training and in serving cannot drift.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import imagesize
import numpy as np
from numpy.typing import NDArray

from handlers.errors import TooLargeError, UndecodableError, UnsupportedTypeError

Pixels = NDArray[np.uint8]  # (H, W, 3), RGB
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})  # of files that may hold what is decoded here

# IMREAD_REDUCED_COLOR_n would also ask for BGR, which OpenCV refuses together with IMREAD_COLOR_RGB.
_REDUCED = {2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}

# JPEG markers that carry a length; 0xFF before anything else is a stuffed byte, padding or a restart.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END_OF_IMAGE = 0xD9
_MAX_JPEG_SEGMENTS = 10_000  # pictures have some dozens; megabytes of empty segments would take seconds to walk

# Of what is longer only the middle is scaled: a line of 65,535x1 pixels would grow to gigabytes, to be cut off.
_MAX_ASPECT = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before a single pixel is decoded."""

    max_bytes: int = 16 * 2**20
    max_pixels: int = 50_000_000
    max_decoded_pixels: int = 16_000_000  # a JPEG is decoded at reduced scale where that is enough; others are not


def use_one_thread() -> None:
    """For the whole process. Workers are the unit of parallelism; OpenCV's own threads would fight over the cores.

    Whoever serves images calls it: `entry` cannot, for the workers of other models must not load OpenCV.
    """
    cv2.setNumThreads(1)


def media_type(data: bytes) -> str | None:
    """The image's type by its first bytes (a header field is only a claim), or None for none of the three."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def decode(data: bytes, limits: Limits = Limits(), shorter_side: int = 1) -> Pixels:
    """Decode to (H, W, 3) uint8 RGB, upright by its EXIF orientation, transparency laid on white.

    A JPEG is decoded at 1/2, 1/4 or 1/8 scale as long as its shorter side stays at least twice `shorter_side`: libjpeg
    then skips most of the inverse DCT, and the later resize still averages over at least 2x2 pixels.

    Raises UnsupportedTypeError, TooLargeError or UndecodableError.
    """
    kind = media_type(data)
    if kind is None:
        raise UnsupportedTypeError("expected a JPEG, PNG or WebP image" if data else "the image is empty")
    if len(data) > limits.max_bytes:
        raise TooLargeError(f"the image has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted")
    width, height = _jpeg_size(data) if kind == "image/jpeg" else _size(data)
    if width <= 0 or height <= 0:
        raise UndecodableError("the image's header is damaged: it states no size")
    if width * height > limits.max_pixels:
        raise TooLargeError(f"the image has {width}x{height} pixels; at most {limits.max_pixels:,} are accepted")
    scale = 1
    if kind == "image/jpeg" and shorter_side > 1:
        scale = next((s for s in (8, 4, 2) if min(width, height) >= 2 * s * shorter_side), 1)
    if width * height > limits.max_decoded_pixels * scale**2:
        instead = ", or a JPEG" if kind != "image/jpeg" and shorter_side > 1 else ""
        raise TooLargeError(f"{width}x{height} pixels are too many to decode: send a smaller picture{instead}")
    if has_alpha(data):
        return _decode_transparent(data)
    flags = cv2.IMREAD_COLOR_RGB | _REDUCED.get(scale, 0)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None or (kind == "image/jpeg" and not _is_complete_jpeg(data)):
        raise UndecodableError(f"the {kind} data is damaged or cut short")
    return pixels.astype(np.uint8, copy=False)


def resize_and_crop(pixels: Pixels, size: int) -> Pixels:
    """Scale the shorter side to `size` and cut the centre out: (H, W, 3) -> (size, size, 3)."""
    height, width = pixels.shape[:2]
    longest = _MAX_ASPECT * min(height, width)
    if max(height, width) > longest:
        top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
        pixels = pixels[top : height - top, left : width - left]
        height, width = pixels.shape[:2]
    scale = size / min(height, width)
    if scale != 1:
        # INTER_AREA averages when shrinking (no aliasing); enlarging with it would repeat pixels.
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        new_width, new_height = max(size, round(width * scale)), max(size, round(height * scale))
        pixels = cv2.resize(pixels, (new_width, new_height), interpolation=how).astype(np.uint8, copy=False)
        height, width = pixels.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def load(data: bytes, size: int, limits: Limits = Limits()) -> Pixels:
    """`decode`, then `resize_and_crop`: what a network of input size `size` sees, (size, size, 3)."""
    return resize_and_crop(decode(data, limits, shorter_side=size), size)


def _size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG or WebP from the header alone; not positive where it states none."""
    width, height = imagesize.get(io.BytesIO(data))
    return int(width), int(height)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """As `_size`, and read as libjpeg reads: imagesize takes a stuffed 0xFF00 for a segment, behind which a crafted
    file can hide from the limits what libjpeg will decode."""
    start = next((at for marker, at in _jpeg_segments(data) if marker in _START_OF_FRAME), len(data))
    return int.from_bytes(data[start + 5 : start + 7]), int.from_bytes(data[start + 3 : start + 5])


def _is_complete_jpeg(data: bytes) -> bool:
    """Whether the image has its end. OpenCV refuses data that stops before it, but not zeros in place of the rest, as
    a broken download leaves them: those it decodes to grey.

    What follows the end (a phone's film, a second picture) may hold any bytes.
    """
    return any(marker == _END_OF_IMAGE for marker, _ in _jpeg_segments(data))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Markers up to the end of the image, and where the segment of each starts: its length, then its content.

    Bytes between segments are skipped, as libjpeg does: scans, and what is out of place.
    """
    at = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            return
        marker, at = found[1][0], found.end()
        yield marker, at
        if marker == _END_OF_IMAGE:
            return
        at += max(2, int.from_bytes(data[at : at + 2]))


def has_alpha(data: bytes) -> bool:
    """Whether a PNG or WebP announces transparency, by its header alone."""
    if data[1:4] == b"PNG":
        if data[24:26] == b"\x10\x00":  # 16-bit grey: Pillow would clip it; one transparent grey value is not honoured
            return False
        grey_or_colour_with_alpha = data[25:26] in (b"\x04", b"\x06")
        return grey_or_colour_with_alpha or b"tRNS" in data[: max(data.find(b"IDAT"), 0)]
    if data[8:12] != b"WEBP":
        return False
    extended, lossless = data[12:16] == b"VP8X", data[12:16] == b"VP8L"
    return len(data) > 24 and bool((extended and data[20] & 0x10) or (lossless and data[24] & 0x10))


def _decode_transparent(data: bytes) -> Pixels:
    """Through Pillow: OpenCV either drops the alpha channel or ignores the orientation."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP")) as image:
            ImageOps.exif_transpose(image, in_place=True)
            upright = image.convert("RGBA")
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, ValueError, struct.error, ...
        raise UndecodableError("the image data is damaged or cut short") from error
    white = Image.new("RGB", upright.size, "white")
    white.paste(upright, mask=upright)
    return np.asarray(white)
