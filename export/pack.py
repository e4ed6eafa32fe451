"""Files -> one `.mar`, the same bytes for the same files. Knows nothing of networks."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.errors import ExportError
from handlers.archive import DIGESTS, file_digest

HANDLERS = Path(__file__).parent.parent / "handlers"
CONFIG = "model-config.yaml"
METADATA = "metadata.json"
CARD = "model_card.md"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold


def pack(
    target: Path,
    name: str,
    version: str,
    config: str,
    metadata: Mapping[str, Any],
    card: str,
    files: Mapping[str, Path],
) -> None:
    """Write `target` (a .mar): the handlers, the given files (place inside -> file or folder) and what describes them.

    The official archiver lays the files out; it stamps times and empties `<temporary folder>/<model name>`, so it gets
    a temporary folder of its own and the zip is made here: sorted, with fixed dates. Raises ExportError.
    """
    with tempfile.TemporaryDirectory(prefix="marserve-pack-") as scratch:
        staging, laid_out = Path(scratch, "staging"), Path(scratch, "out")
        staging.mkdir()
        laid_out.mkdir()
        shutil.copytree(HANDLERS, staging / "handlers", ignore=shutil.ignore_patterns("__pycache__", "entry.py"))
        for place, source in files.items():
            copy = shutil.copytree if source.is_dir() else shutil.copyfile
            copy(source, staging / place)
        (staging / METADATA).write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n")
        (staging / CARD).write_text(card)
        Path(scratch, CONFIG).write_text(config)
        _run_archiver(name, version, staging, Path(scratch, CONFIG), laid_out)
        root = laid_out / name
        _fix_manifest(root / "MAR-INF" / "MANIFEST.json")
        _write_digests(root)
        _write_zip(root, target)


def _run_archiver(name: str, version: str, staging: Path, config: Path, laid_out: Path) -> None:
    command = [sys.executable, "-m", "model_archiver.model_packaging"]
    command += ["--model-name", name, "--version", version, "--handler", str(HANDLERS / "entry.py")]
    command += ["--extra-files", str(staging), "--config-file", str(config)]
    command += ["--archive-format", "no-archive", "--export-path", str(laid_out)]
    with tempfile.TemporaryDirectory(dir=laid_out.parent) as private:
        environment = os.environ | {"TMPDIR": private}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or not (laid_out / name).is_dir():
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ExportError(f"torch-model-archiver failed: {''.join(reason)}")


def _fix_manifest(path: Path) -> None:
    manifest = json.loads(path.read_text())
    manifest["createdOn"] = "01/01/1980 00:00:00"  # metadata.json has the date of the training
    path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def _write_digests(root: Path) -> None:
    digests = {str(path.relative_to(root)): file_digest(path) for path in _files(root)}
    (root / DIGESTS).write_text(json.dumps(digests, indent=2) + "\n")


def _write_zip(root: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")  # its own: another run may write there too
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in _files(root):
                entry = zipfile.ZipInfo(str(path.relative_to(root)), _EPOCH)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())
