"""The archives that every server serves: the released ones with this checkout's handlers, and one image model.

That one is an EfficientNet-B0 for 224x224 pixels, the size that others measure with, whose weights are random: how fast
a network is does not depend on them. Archives are made again when what they are made from has changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handlers.archive import unpack
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


def make_store(names: Sequence[str], folder: Path = BUILD / "bench") -> Store:
    """Raises LoadTestError with the last line of what an export said."""
    for name in names:
        target = folder / name / f"{name}.mar"
        stamp = _stamp(name)
        if not target.is_file() or (folder / name / "stamp").read_text() != stamp:
            shutil.rmtree(folder / name, ignore_errors=True)
            target.parent.mkdir(parents=True)
            _export(name, target.parent)
            unpack(target, target.parent / "unpacked")
            (target.parent / "stamp").write_text(stamp)
    store = Store(folder / "store", folder / "models", tuple(names))
    for link in (store.archives, store.models):  # of this run's models only: a server loads all that is there
        shutil.rmtree(link, ignore_errors=True)
        link.mkdir(parents=True)
    for name in names:
        shutil.copyfile(folder / name / f"{name}.mar", store.archives / f"{name}.mar")
        (store.models / name).symlink_to((folder / name / "unpacked").resolve(), target_is_directory=True)
    return store


def _export(name: str, folder: Path) -> None:
    source = ["--archive", str(ROOT / "model_store" / f"{name}.mar")]
    if name == IMAGE:
        _run("export.untrained", str(folder / "checkpoint"), "--size", str(SIDE))
        source = ["--checkpoint", str(folder / "checkpoint" / "best_model.pth")]
    _run("export", name, *source, "--output_dir", str(folder))


def _run(module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise LoadTestError(f"python -m {module} {arguments[0]} failed: {said[-1] if said else 'it said nothing'}")


def _stamp(name: str) -> str:
    digest = hashlib.sha256()
    own = ROOT / "export" / "untrained.py" if name == IMAGE else ROOT / "model_store" / f"{name}.mar"
    for path in sorted([*ROOT.glob("handlers/**/*.py"), *ROOT.glob(f"export/specs/{name}.*"), own]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
