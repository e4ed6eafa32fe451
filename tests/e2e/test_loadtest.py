"""The load test against a real server, over both protocols."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.paths import ROOT


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_short_load_finds_every_reply_right(server: Server, protocol: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest", "captcha_image", "captcha_challenge", "--host", server.url]
    command += ["--users", "3", "--duration", "4", "--output", str(tmp_path)]
    command += ["--grpc", server.grpc] if protocol == "grpc" else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "report.html").stat().st_size > 10_000
    for model in ("captcha_image", "captcha_challenge"):
        assert model in done.stdout
