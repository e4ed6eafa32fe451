"""The measurements of a GPU, on the CPU: every table comes, and what cannot be measured is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.bench.processes import free_port
from loadtest.gpu import main
from tests.e2e.server import processes_of
from tests.paths import ROOT
from tests.tools import need

IMAGE = str(ROOT / "model_store" / "captcha_image.mar")


def test_every_figure_comes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    need("wrk")
    monkeypatch.chdir(ROOT)
    port = free_port()
    options = ["--provider=cpu", "--batch=3", "--threads=2", "--connections=4", "--seconds=1", f"--port={port}"]
    assert main([IMAGE, *options]) == 0
    lines = [[word.strip() for word in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if line]
    assert [row[0] for row in rows[:5]] == ["1", "2", "3", "1", "2"]  # batches, then threads
    assert [row[0].split()[0] for row in rows[5:]] == ["requests", "of", "p50,", "errors", "of"]
    assert all(float(row[-1].replace(",", "")) > 0 for row in rows[:7])
    assert rows[8][1] == "0"
    assert processes_of(port) == []


def test_without_cuda(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([IMAGE]) == 2
    assert capsys.readouterr().err == (
        "error: this onnxruntime has no CUDA: run it from the GPU environment (make serve GPU=1)\n"
    )


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (str(ROOT / "model_store" / "drag_pattern.mar"), "is for trajectory_classification"),
        ("nowhere.mar", "nowhere.mar does not exist"),
    ],
)
def test_what_cannot_be_measured(
    archive: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([archive, "--provider=cpu"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--batch=0", "--seconds=x", "--threads=-1", "--provider=tpu"])
def test_wrong_options(wrong: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([IMAGE, wrong])
    assert ended.value.code == 2
