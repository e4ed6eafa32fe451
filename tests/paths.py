"""Where things are in this checkout."""

from pathlib import Path

import cv2

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "export" / "specs" / "captcha_image.jpg"
FACE = ROOT / "export" / "specs" / "face_mosaic.jpg"  # one face (Grace Hopper, U.S. Navy, public domain)
CASCADE = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt.xml"
SHARED_DATA = ROOT.parent / "shared" / "data"  # real data, which is no part of the repository
