"""Generated pictures, and their encodings as files."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlers.image import Pixels

ORIENTATION = 0x0112  # EXIF tag


def photo(height: int, width: int, noise: float = 12, seed: int = 0) -> Pixels:
    """Colour gradients under camera-like noise, (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    smooth = 255 * np.stack([x, y, (x + y) / 2], axis=-1)
    noisy = smooth + np.random.default_rng(seed).normal(0, noise, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def corners(height: int, width: int) -> Pixels:
    """A red, green, blue and white quarter: no turn and no mirror image of it looks the same."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for quarter, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]):
        rows = slice(height // 2) if quarter < 2 else slice(height // 2, None)
        columns = slice(width // 2) if quarter % 2 == 0 else slice(width // 2, None)
        pixels[rows, columns] = colour
    return pixels


def encode(picture: Pixels | Image.Image, kind: str, orientation: int | None = None, **options: Any) -> bytes:
    """The file of `kind` ("JPEG", "PNG", "WEBP") that Pillow writes."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(pixels: NDArray[Any], bit_depth: int, colour_type: int, chunks: bytes = b"") -> bytes:
    """A PNG of a kind that Pillow does not write; `pixels` (H, W) or (H, W, channels), unfiltered."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2" if bit_depth == 16 else np.uint8).reshape(height, -1)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return png_header(width, height, bit_depth, colour_type) + chunks + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def png_header(width: int, height: int, bit_depth: int = 8, colour_type: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    )


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def pillow_pixels(data: bytes) -> Pixels:
    """The reference for decoding: RGB as Pillow reads it."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
