"""An archive as the source of the next one: its network, pool and records, for newer handlers, spec or card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from export.errors import ExportError
from export.pack import CONFIG, METADATA
from handlers import archive as archive_file
from handlers.errors import SpecError


def unpack(archive: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Unpack into `folder`; the archive's metadata, and its spec's `handler:` section. Raises ExportError."""
    try:
        archive_file.unpack(archive, folder)
        metadata: dict[str, Any] = json.loads((folder / METADATA).read_bytes())
        handler: dict[str, Any] = yaml.safe_load((folder / CONFIG).read_bytes())["handler"]
    except (OSError, SpecError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ExportError(f"{archive} cannot be packed again: {error}") from error
    return metadata, handler
