"""The two-level layout `<group>/<class>/*.jpg|png` on disk. Hidden files and folders are none."""

from __future__ import annotations

from pathlib import Path

from handlers.image import SUFFIXES
from training.cli import DataError


def class_folders(data_dir: Path) -> list[Path]:
    """Every `<group>/<class>`, sorted. Raises DataError where the layout is not the two-level one."""
    if not data_dir.is_dir():
        raise DataError(f"{data_dir} is not a folder; expected {data_dir}/<group>/<class>/*.jpg|png")
    groups = _folders(data_dir)
    for group in groups:
        if any(is_image(path) for path in group.iterdir()):
            raise DataError(f"{group} holds images itself; they belong one level down, in {group}/<class>/")
    return [folder for group in groups for folder in _folders(group)]


def is_image(path: Path) -> bool:
    """By its name alone; whether it decodes is another question."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
