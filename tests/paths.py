"""Where things are in this checkout."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "export" / "specs" / "captcha_image.jpg"
SHARED_DATA = ROOT.parent / "shared" / "data"  # real data, which is no part of the repository
