"""docs/adding-a-model.md, as it stands: its files are written, its commands run, its replies compared."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench.processes import free_port
from tests.e2e.server import processes_of
from tests.paths import ROOT
from tests.tools import need

PAGE = ROOT / "docs" / "adding-a-model.md"
_BLOCK = re.compile(r"(?:^`(?P<file>[\w./-]+)`:\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = "9000"  # the page's


def checkout(folder: Path) -> None:
    """What the page's commands work on, with this environment in the place of `.venv-dev`."""
    for package in ("handlers", "training", "export"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "config.properties", folder)
    (folder / ".venv-dev").symlink_to(sys.prefix)


def shape(reply: dict[str, Any]) -> tuple[str, list[str]]:
    """What of a reply is the same on every machine."""
    return reply["label"], list(reply["probabilities"])


@pytest.mark.timeout(900)
def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    need("curl")
    checkout(tmp_path)
    port = free_port()
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "OMP_NUM_THREADS": "1"}
    printed, replies = "", 0
    try:
        for block in _BLOCK.finditer(PAGE.read_text()):
            text = block["text"].replace(_PORT, str(port))
            if block["file"]:
                (tmp_path / block["file"]).write_text(text)
            elif block["kind"] == "json":
                assert shape(json.loads(printed.splitlines()[-1])) == shape(json.loads(text))
                replies += 1
            else:
                done = subprocess.run(
                    ["bash", "-e"],
                    input=text,
                    cwd=tmp_path,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=240,
                )
                assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
                printed = done.stdout
    finally:
        stop = [sys.executable, "-m", "marserve", "stop", "--port", str(port)]
        subprocess.run(stop, env=environment, capture_output=True, check=False)
    assert replies == 2
    assert processes_of(port) == []
    card = (tmp_path / "model_store" / "shapes.md").read_text()
    accuracy = float(re.findall(r"Validation accuracy ([\d.]+)", card)[0])
    assert accuracy > 0.8  # half of them are circles
    assert "Drawn for this page." in card
    card = (tmp_path / "model_store" / "iris.md").read_text()
    accuracy, majority = map(float, re.findall(r"Accuracy ([\d.]+) .* has\s+([\d.]+);", card, re.DOTALL)[0])
    assert accuracy > majority + 0.4
