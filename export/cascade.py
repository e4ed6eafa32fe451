"""The classifier that finds faces: a file of OpenCV's own package, and whose it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2

from export.errors import ExportError
from handlers.archive import file_digest

_FOLDER = Path(cv2.__file__).parent / "data"
_LICENCE = "Intel License Agreement"


def opencv_cascade(name: str) -> Path:
    """Raises ExportError where this OpenCV has none of that name."""
    file = _FOLDER / name
    if not file.is_file():
        raise ExportError(f"handler.cascade: OpenCV {cv2.__version__} has no {name} in {_FOLDER}")
    return file


def cascade_record(file: Path) -> dict[str, Any]:
    """For the archive's records: what the file is, and what its first lines say of author and licence.

    Raises ExportError where the licence is not the known one, which the model's card states.
    """
    head = file.read_text("utf-8", "replace")[:4000]
    author, holder = re.search(r"Created by ([^.\n]+)", head), re.search(r"Copyright \(C\) ([^.\n]*Corporation)", head)
    if _LICENCE not in head or author is None or holder is None:
        raise ExportError(f"{file.name} does not begin with the licence that the model's card states ({_LICENCE})")
    return {
        "file": file.name,
        "sha256": file_digest(file),
        "author": author[1],
        "copyright": f"Copyright (C) {holder[1]}",
        "licence": f"{_LICENCE} For Open Source Computer Vision Library (BSD-style), in full at the head of the file",
    }
