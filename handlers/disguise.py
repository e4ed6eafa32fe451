"""Make a known image unknown: the same subject in other pixels, so that no hash of a served image can be looked up.

Random crop, flip, tilt, colour, background and JPEG quality. What is written is encoded anew: no metadata survives.
"""

from __future__ import annotations

import secrets

import cv2
import numpy as np
from numpy.typing import NDArray

from handlers.image import Pixels, has_alpha

SIDE = 200  # pixels; enough to recognise a subject on a phone, small enough to send a dozen
_random = secrets.SystemRandom()


def disguise(data: bytes, side: int = SIDE) -> bytes:
    """An image file -> a JPEG of side x side pixels that differs at every call.

    Raises ValueError where the data is no image: that is the pool's fault, not the client's.
    """
    pixels = _warp(_decode(data, side), side)
    pixels = _shift_colours(pixels)
    ok, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _random.randint(72, 92)])
    if not ok:
        raise ValueError("a pool image cannot be encoded")
    return encoded.tobytes()


def _decode(data: bytes, side: int) -> Pixels:
    """BGR with the orientation of its EXIF block, or BGRA where there is transparency: (H, W, 3 or 4)."""
    transparent = has_alpha(data)
    try:
        how = cv2.IMREAD_UNCHANGED if transparent else cv2.IMREAD_COLOR_BGR
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except cv2.error:
        picture = None
    if picture is None:
        raise ValueError("a pool image is damaged")
    if picture.dtype == np.uint16:
        picture = cv2.convertScaleAbs(picture, alpha=1 / 257)
    if picture.ndim == 2:  # announced transparency and has none
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    shorter = min(picture.shape[:2])
    if shorter > 2 * side:  # warping samples points: from a large picture it would make noise of fine detail
        size = [max(1, round(extent * 2 * side / shorter)) for extent in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return picture.astype(np.uint8, copy=False)


def _warp(picture: Pixels, side: int) -> Pixels:
    """Crop 84-97 % of the shorter side at a random place, tilt up to 8 degrees, flip half of them: (side, side, 3)."""
    height, width = picture.shape[:2]
    crop = _random.uniform(0.84, 0.97) * min(height, width)
    margin_x, margin_y = (width - crop) / 2, (height - crop) / 2
    centre = (
        width / 2 + _random.uniform(-1, 1) * min(margin_x, 0.12 * crop),
        height / 2 + _random.uniform(-1, 1) * min(margin_y, 0.12 * crop),
    )
    matrix = cv2.getRotationMatrix2D(centre, _random.uniform(-8, 8), side / crop)
    matrix[:, 2] += np.array([side / 2 - centre[0], side / 2 - centre[1]])
    if _random.random() < 0.5:
        matrix = np.array([[-1, 0, side - 1], [0, 1, 0]], float) @ np.vstack([matrix, [0, 0, 1]])
    if picture.shape[2] == 3:
        warped = cv2.warpAffine(picture, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
        return warped.astype(np.uint8, copy=False)
    warped = cv2.warpAffine(picture, matrix, (side, side))  # (side, side, 4), clear outside
    alpha = warped[..., 3:].astype(np.float32) / 255
    ground = _background(side)
    return (ground + (warped[..., :3] - ground) * alpha).astype(np.uint8)


def _background(side: int) -> NDArray[np.float32]:
    """A gradient between two light colours, for drawings with a transparent ground: (side, side, 3)."""
    first, second = (np.array([_random.uniform(150, 255) for _ in range(3)], np.float32) for _ in range(2))
    ramp = np.linspace(0, 1, side, dtype=np.float32)
    ramp_2d = ramp[:, None] if _random.random() < 0.5 else ramp[None, :]
    blend = np.broadcast_to(ramp_2d, (side, side))[..., None]
    return first + (second - first) * blend


def _shift_colours(pixels: Pixels) -> Pixels:
    """Hue +-8 degrees, saturation and contrast +-15 %, brightness +-15 levels, noise of +-4 levels.

    By look-up tables of 256 entries: the same arithmetic on every pixel took three times as long.
    """
    values = np.arange(256, dtype=np.float32)
    hue = (values + _random.uniform(-4, 4)) % 180  # OpenCV's unit is two degrees
    saturation = values * _random.uniform(0.85, 1.15)
    tone = (values - 128) * _random.uniform(0.85, 1.15) + 128 + _random.uniform(-15, 15)
    hsv = cv2.LUT(cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV), _table(hue, saturation, values))
    shifted = cv2.LUT(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), _table(tone, tone, tone))
    noise = np.random.default_rng(secrets.randbits(128)).integers(-4, 5, pixels.shape, np.int16)
    noisy: Pixels = np.clip(shifted + noise, 0, 255).astype(np.uint8)
    return noisy


def _table(*channels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """For cv2.LUT: (1, 256, channels)."""
    return np.clip(np.stack(channels, axis=-1)[None], 0, 255).astype(np.uint8)
