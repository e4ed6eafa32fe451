"""From an image's bytes to what a network sees, under the names that recipes and specs use: training and serving share
them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from handlers import image, ink

Loader = Callable[[bytes, int, image.Limits], image.Pixels]  # bytes, side, limits -> (side, side, 3), uint8 RGB

LOADERS: Mapping[str, Loader] = {
    "crop": image.load,  # the shorter side is scaled, the centre cut out
    "ink": ink.load,  # white strokes on black, scaled and centred
}
