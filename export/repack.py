"""An archive as the source of the next one: its network, pool and records, for newer handlers, spec or card."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import yaml

from export.errors import ExportError
from export.pack import CONFIG, METADATA
from handlers.archive import check_digests
from handlers.errors import SpecError


def unpack(archive: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Unpack into `folder`; the archive's metadata, and its spec's `handler:` section. Raises ExportError."""
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)  # zipfile keeps every member below `folder`
        check_digests(folder)
        metadata: dict[str, Any] = json.loads((folder / METADATA).read_bytes())
        handler: dict[str, Any] = yaml.safe_load((folder / CONFIG).read_bytes())["handler"]
    except (OSError, zipfile.BadZipFile, SpecError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ExportError(f"{archive} cannot be packed again: {error}") from error
    return metadata, handler
