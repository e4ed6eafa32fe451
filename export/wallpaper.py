"""The example photograph of wallpaper_defect, drawn: striped wallpaper with a tear.

python -m export.wallpaper --output export/specs/wallpaper_defect.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 320  # pixels


def draw() -> NDArray[np.uint8]:
    """(SIDE, SIDE, 3), RGB; always the same."""
    random = np.random.default_rng(0)
    pixels = np.full((SIDE, SIDE, 3), (214, 202, 178), np.uint8)
    for left in range(0, SIDE, 40):
        cv2.rectangle(pixels, (left, 0), (left + 14, SIDE), (188, 172, 142), -1)
        for top in range(20, SIDE, 48):
            cv2.ellipse(pixels, (left + 27, top), (5, 9), 0, 0, 360, (150, 120, 96), 1, cv2.LINE_AA)
    tear = np.array([[150, 70], [196, 96], [182, 128], [214, 176], [176, 236], [160, 190], [138, 168], [158, 122]])
    cv2.fillPoly(pixels, [tear + 3], (120, 108, 90), cv2.LINE_AA)  # its shadow
    cv2.fillPoly(pixels, [tear], (233, 231, 226), cv2.LINE_AA)  # the plaster behind
    cv2.polylines(pixels, [tear], isClosed=True, color=(246, 240, 228), thickness=2, lineType=cv2.LINE_AA)
    light = np.linspace(1.04, 0.86, SIDE)[:, None, None]  # from above
    return (pixels * light + random.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m export.wallpaper", description="Draw wallpaper with a tear.")
    parser.add_argument("--output", type=Path, required=True, help="as in export/specs/wallpaper_defect.jpg")
    output = parser.parse_args(argv).output
    cv2.imwrite(str(output), cv2.cvtColor(draw(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
