"""Pictures in rows with a caption each, as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from handlers import image
from handlers.errors import RequestError
from marserve.errors import MarserveError

SIDE = 160  # pixels of a picture's longer side
COLUMNS = 6
_GAP, _LINE, _SIZE = 12, 17, 13
_PAPER, _TILE, _INK, _PALE, _ACCENT = "white", "#eceff1", "#212121", "#78909c", "#1565c0"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Tile:
    """`title` and `text` stand below the picture; `missing` in its place where there is none to show."""

    path: Path
    title: str
    text: str
    missing: str = ""
    framed: bool = False


def draw(tiles: Sequence[Tile], target: Path) -> None:
    """Write the sheet, in the format of the name's ending. Raises MarserveError."""
    columns = min(COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    width, height = SIDE + _GAP, SIDE + 2 * _LINE + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_SIZE)
    for number, tile in enumerate(tiles):
        left, top = _GAP + number % columns * width, _GAP + number // columns * height
        _draw_picture(sheet, pen, font, tile, left, top)
        pen.text((left, top + SIDE + 2), _fitting(tile.title, font), _ACCENT if tile.framed else _INK, font)
        pen.text((left, top + SIDE + 2 + _LINE), _fitting(tile.text, font), _PALE, font)
    try:
        sheet.save(target)
    except ValueError:  # an ending that Pillow does not know
        raise MarserveError(f"cannot write {target}: name it .png, .jpg or .webp") from None
    except OSError as error:
        raise MarserveError(f"cannot write {target}: {error.strerror or error}") from None


def _draw_picture(sheet: Image.Image, pen: ImageDraw.ImageDraw, font: Font, tile: Tile, left: int, top: int) -> None:
    pen.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), _TILE)
    missing = tile.missing
    if not missing:
        try:
            picture = Image.fromarray(image.decode(tile.path.read_bytes(), shorter_side=SIDE))
            picture = ImageOps.contain(picture, (SIDE, SIDE))
            sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
        except (OSError, RequestError):
            missing = "cannot be read"
    if missing:
        pen.text((left + SIDE / 2, top + SIDE / 2), missing, _PALE, font, anchor="mm")
    if tile.framed:
        pen.rectangle((left - 3, top - 3, left + SIDE + 2, top + SIDE + 2), outline=_ACCENT, width=3)


def _fitting(text: str, font: Font) -> str:
    """As much of the end as fits below a picture: names differ there."""
    shown = text
    while font.getlength(shown) > SIDE and len(text) > 1:
        text = text[1:]
        shown = f"…{text}"
    return shown
