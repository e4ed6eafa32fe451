"""Small archives, made once, and a runtime folder of one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.export.models import pack_red_or_blue
from tests.paths import ROOT

# For generated cases: a busy machine is no failure.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_red_or_blue(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive as torch-model-archiver makes it, without anything of marserve's."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "handler.py").write_text("def handle(data, context): return data\n")
    (folder / "config.yaml").write_text("batchSize: 2\nhandler: {profile: true}\nsince: 2026-01-02\n")
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name=foreign", "--version=0.1"]
    command += ["--handler=handler.py", "--config-file=config.yaml", f"--export-path={folder}"]
    subprocess.run(command, cwd=folder, env=os.environ | {"TMPDIR": str(folder)}, check=True, capture_output=True)
    return folder / "foreign.mar"


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def evaluated_alone(archive: Path, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What `marserve evaluate --json` prints in a process of its own, and which heavy packages that has loaded."""
    code = (
        "import sys; from marserve.cli import main\n"
        "try: main()\n"
        "finally: print(*{'torch', 'torchvision', 'sklearn', 'onnx', 'scipy', 'pandas'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "evaluate", str(archive), "--data_dir", str(folder), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    found, heavy = done.stdout.splitlines()
    return json.loads(found), heavy.split()
