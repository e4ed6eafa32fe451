"""The layouts `<group>/<class>/*.jpg|png` and `<group>/*.jpg|png` on disk. Hidden files and folders are none."""

from __future__ import annotations

from pathlib import Path

from handlers.image import SUFFIXES
from training.cli import DataError


def class_folders(data_dir: Path, or_groups: bool = False) -> list[Path]:
    """Every `<group>/<class>`, sorted; with `or_groups` also every `<group>` that holds images and no folder.

    Raises DataError for another layout.
    """
    if not data_dir.is_dir():
        raise DataError(f"{data_dir} is not a folder; expected {data_dir}/<group>/<class>/*.jpg|png")
    found = []
    for group in _folders(data_dir):
        classes = _folders(group)
        if any(is_image(path) for path in group.iterdir()):
            if classes or not or_groups:
                raise DataError(f"{group} holds images itself; they belong one level down, in {group}/<class>/")
            classes = [group]
        found += classes
    return found


def is_image(path: Path) -> bool:
    """By its name alone; whether it decodes is another question."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
