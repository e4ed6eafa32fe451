"""Archives made from a good one by changing some of its files."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from handlers.archive import DIGESTS
from tests.paths import ROOT


def read_files(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """With digests that match, so that only what the files say is wrong."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != DIGESTS}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, DIGESTS: json.dumps(digests).encode()}.items():
            archive.writestr(name, content)


@functools.cache
def current_store() -> Path:
    """The released archives with the handlers of this checkout, so that it is these that are tested."""
    store = Path(tempfile.mkdtemp(prefix="marserve-store-"))
    atexit.register(shutil.rmtree, store, ignore_errors=True)
    handlers = {str(path.relative_to(ROOT)): path.read_bytes() for path in sorted(ROOT.glob("handlers/**/*.py"))}
    handlers["entry.py"] = handlers.pop("handlers/entry.py")
    for path in sorted((ROOT / "model_store").glob("*.mar")):
        rest = {name: content for name, content in read_files(path).items() if not name.endswith(".py")}
        write_archive(store / path.name, rest | handlers)
    return store


def with_handler(files: Mapping[str, bytes], **changes: object) -> dict[str, bytes]:
    """The same files with keys of the spec's `handler:` section replaced."""
    config = yaml.safe_load(files["model-config.yaml"])
    config["handler"].update(changes)
    return {**files, "model-config.yaml": yaml.safe_dump(config).encode()}


def with_version(files: Mapping[str, bytes], version: str) -> dict[str, bytes]:
    """The same model as another version."""
    manifest = json.loads(files["MAR-INF/MANIFEST.json"])
    manifest["model"]["modelVersion"] = version
    return {**files, "MAR-INF/MANIFEST.json": json.dumps(manifest).encode()}
