"""An unpacked archive: whether its files are the ones that were packed."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path

from handlers.errors import SpecError

DIGESTS = "digests.json"
SELFTEST = "selftest.json"  # what `selftest` reads


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a `.mar` that marserve made and check it. Raises SpecError."""
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)  # zipfile keeps every member below `folder`
    except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, zlib.error) as error:
        raise SpecError(f"{archive} cannot be unpacked: {error}") from error
    check_digests(folder)


def check_digests(folder: Path) -> None:
    """Compare every file that `digests.json` names. Raises SpecError for a missing or changed one.

    This finds damage and mix-ups. It is no signature: whoever can change a file can change the list too.
    """
    try:
        digests = json.loads((folder / DIGESTS).read_bytes())
    except (OSError, ValueError) as error:
        raise SpecError(f"the archive has no readable {DIGESTS}; pack it again with `python -m export`") from error
    if not isinstance(digests, dict):
        raise SpecError(f"{DIGESTS} is not an object of file names and digests")
    for name, expected in digests.items():
        path = folder / name
        if not path.is_file():
            raise SpecError(f"the archive lacks {name}")
        if file_digest(path) != expected:
            raise SpecError(f"{name} is not the file that was packed: its SHA-256 differs from {DIGESTS}")
