"""The archives that every server serves: the released ones with this checkout's handlers, and one image model.

That one is an EfficientNet-B0 for 224x224 pixels, the size that others measure with, whose weights are random: how fast
a network is does not depend on them.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handlers.archive import DIGESTS, unpack
from loadtest.errors import LoadTestError

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
IMAGE = "captcha_image"
MOVEMENT = "drag_pattern"
TICKET = "ticket_slice"
SIDE = 224  # pixels of the image model's input


@dataclass(frozen=True, slots=True)
class Store:
    """`archives` has NAME.mar for every model, `models` a folder NAME with what is in it."""

    archives: Path
    models: Path
    names: tuple[str, ...]


def make_store(names: Sequence[str], folder: Path) -> Store:
    """In an empty folder, these models only: a server loads all that is there. Raises LoadTestError."""
    store = Store(folder / "store", folder / "models", tuple(names))
    for place in (store.archives, store.models):
        place.mkdir()
    for name in names:
        source = _untrained(BUILD / "bench") if name == IMAGE else ROOT / "model_store" / f"{name}.mar"
        repack(source, store.archives / f"{name}.mar")
        unpack(store.archives / f"{name}.mar", store.models / name)
    return store


def repack(source: Path, target: Path) -> None:
    """The same archive with the handlers of this checkout: it is these that are measured."""
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in sorted(ROOT.glob("handlers/**/*.py"))}
    files["entry.py"] = files.pop("handlers/entry.py")
    with zipfile.ZipFile(source) as archive:
        others = [name for name in archive.namelist() if not name.endswith(".py") and name != DIGESTS]
        files |= {name: archive.read(name) for name in others}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in {**files, DIGESTS: json.dumps(digests).encode()}.items():
            archive.writestr(name, content)


def _untrained(folder: Path) -> Path:
    """The archive of the image model, exported where its maker or its spec has changed: that takes minutes."""
    archive, stamp = folder / f"{IMAGE}.mar", folder / "stamp"
    made_from = [ROOT / "export" / "untrained.py", *sorted(ROOT.glob(f"export/specs/{IMAGE}.*"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in made_from)).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        _run("export.untrained", str(folder), "--size", str(SIDE))
        _run("export", IMAGE, "--checkpoint", str(folder / "best_model.pth"), "--output_dir", str(folder))
        stamp.write_text(digest)
    return archive


def _run(module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise LoadTestError(f"python -m {module} {arguments[0]} failed: {said[-1] if said else 'it said nothing'}")
