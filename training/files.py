"""New folders of existing files: all of it or nothing, and never over something that is there."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from training.cli import DataError


def archive_of(output_dir: Path) -> Path:
    """Where `write_new` puts the ZIP file: beside the folder."""
    return output_dir.parent / f"{output_dir.name}.zip"


def refuse_existing(output_dir: Path, archive: bool = False) -> None:
    """Raises DataError where `write_new` would; a dead link exists as well."""
    for path in [output_dir, archive_of(output_dir)] if archive else [output_dir]:
        if os.path.lexists(path):
            raise DataError(f"{path} exists; choose another --output_dir or remove it")


def write_new(files: Mapping[str, Path], output_dir: Path, archive: bool = False) -> None:
    """`output_dir` appears when everything is in it, and with `archive` its ZIP file right after it.

    `files` are places in `output_dir` and what goes there, as a hard link where the file system allows, else as a copy.
    Raises DataError.
    """
    refuse_existing(output_dir, archive)
    try:
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output_dir.name}-", dir=output_dir.parent) as scratch:
            content, packed = Path(scratch) / "content", Path(scratch) / "packed"
            for place, source in tqdm(files.items(), "writing", unit="file", leave=False, disable=None):
                (content / place).parent.mkdir(parents=True, exist_ok=True)
                _link(source, content / place)
            if archive:
                _pack(sorted(files), content, packed)
            refuse_existing(output_dir, archive)  # the work may have taken minutes
            content.rename(output_dir)
            if archive:
                packed.rename(archive_of(output_dir))
    except OSError as error:
        raise DataError(f"cannot write {output_dir}: {error.strerror}") from None


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source.resolve(), place)
    except FileExistsError:  # two names that are one to the file system; a copy would overwrite
        raise
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, place)


def _pack(places: list[str], content: Path, packed: Path) -> None:
    """The same files give the same bytes: no dates, no modes. Not compressed, for photographs already are."""
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:
        for place in tqdm(places, "packing", unit="file", leave=False, disable=None):
            entry = zipfile.ZipInfo(place)  # of 1980
            entry.external_attr = 0o644 << 16
            file.writestr(entry, (content / place).read_bytes())
