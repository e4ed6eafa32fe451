from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from loadtest.starts import main
from tests.e2e.archives import current_store


def test_a_start_beside_broken_archives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(current_store() / "captcha_challenge.mar", tmp_path)
    assert main(["--model-store", str(tmp_path), "--rounds", "1", "--broken"]) == 0
    seconds, memory = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"seconds until ready: [\d.]+; median [\d.]+", seconds)
    assert float(memory.rpartition(" ")[2]) > 100
