"""Where things are in this checkout."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "export" / "specs" / "captcha_image.jpg"
