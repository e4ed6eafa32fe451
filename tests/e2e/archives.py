"""Archives made from a good one by changing some of its files."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from handlers.archive import DIGESTS


def read_files(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """With digests that match, so that only what the files say is wrong."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != DIGESTS}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, DIGESTS: json.dumps(digests).encode()}.items():
            archive.writestr(name, content)


def with_handler(files: Mapping[str, bytes], **changes: object) -> dict[str, bytes]:
    """The same files with keys of the spec's `handler:` section replaced."""
    config = yaml.safe_load(files["model-config.yaml"])
    config["handler"].update(changes)
    return {**files, "model-config.yaml": yaml.safe_dump(config).encode()}
