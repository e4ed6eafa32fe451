"""What is slow to make is made once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from export.__main__ import main
from export.onnx_file import write_onnx
from tests.export.models import ROOT, SIDE, RedOrBlue, SmallEfficient, pack_small_efficient, write_checkpoint


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    write_onnx(RedOrBlue(), (SIDE, SIDE, 3), path)
    return path


@pytest.fixture(scope="session")
def efficient_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("efficient") / "model.onnx"
    write_onnx(SmallEfficient(), (SIDE, SIDE, 3), path)
    return path


@pytest.fixture(scope="session")
def efficient(efficient_onnx: Path) -> Path:
    """captcha_image.mar with a small float32 network."""
    return pack_small_efficient(efficient_onnx.parent, efficient_onnx)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("trained"))


@dataclass(frozen=True, slots=True)
class Exports:
    """The same export twice: the archive of the one in this process, and the other process with its folder."""

    archive: Path
    process: subprocess.Popen[str]
    folder: Path


@pytest.fixture(scope="session")
def exports(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    """Both at once, for each takes long. GIT_DIR: whoever commits meanwhile must not change an archive."""
    folder, elsewhere = tmp_path_factory.mktemp("exported"), tmp_path_factory.mktemp("elsewhere")
    arguments = ["captcha_image", f"--checkpoint={checkpoint}", "--data_note=Random $pixels."]
    environment = {"GIT_DIR": "/nonexistent", "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_DIR", environment["GIT_DIR"])
        process = subprocess.Popen(
            [sys.executable, "-m", "export", *arguments, "--output_dir=out"],
            cwd=elsewhere,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                main([*arguments, f"--output_dir={folder}"])
                yield Exports(folder / "captcha_image.mar", process, elsewhere / "out")
            finally:
                process.kill()


@pytest.fixture(scope="session")
def exported(exports: Exports) -> Path:
    """captcha_image.mar of the random checkpoint, its card beside it."""
    return exports.archive
