"""What measuring costs is measured, and wrong options are said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT


def run(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """In a process of its own: prometheus_client looks at the environment when it is imported."""
    command = [sys.executable, "-m", "loadtest.metrics_cost", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_it_measures() -> None:
    done = run("--points=20", "--rounds=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "a batch of 32" in done.stdout


@pytest.mark.parametrize("wrong", ["--points=7", "--rounds=0"])
def test_wrong_options(wrong: str) -> None:
    done = run(wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("--points takes 8 to 5000, --rounds 1 and more\n")


def test_without_the_archive(tmp_path: Path) -> None:
    done = run(folder=tmp_path)
    assert done.returncode == 2
    assert "start it in the repository's folder" in done.stderr
