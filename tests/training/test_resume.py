"""A training that is killed goes on to the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.photos import write_photos
from training.cli import DataError
from training.train_image import main

ROOT = Path(__file__).parents[2]
OPTIONS = [
    "--input_size=32",
    "--batch_size=8",
    "--epochs=6",
    "--patience=6",
    "--workers=1",
    "--learning_rate=0.003",
    "--validation_share=0.25",
    "--no_mlflow",
]


def start(data_dir: Path, output_dir: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "training/train_efficientnet.py", f"--data_dir={data_dir}", f"--output_dir={output_dir}"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as in this process: the order of sums is part of the bits
    return subprocess.Popen([*command, *OPTIONS, *more], cwd=ROOT, env=one_thread, stdout=subprocess.PIPE, text=True)


def history(output_dir: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((output_dir / "meta.json").read_text())["history"]
    return found


def test_killed_in_the_middle(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(data_dir, killed)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/6"):  # the third is under way
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    done = len(torch.load(killed / "last.pth", weights_only=True)["training"]["history"])
    assert 1 <= done < 6

    resumed = start(data_dir, killed, "--resume")
    output, _ = resumed.communicate(timeout=240)
    assert resumed.returncode == 0
    assert f"epoch {done}/6" not in output  # not done again
    main([f"--data_dir={data_dir}", f"--output_dir={whole}", *OPTIONS])
    capsys.readouterr()
    assert history(killed) == history(whole)
    weights = [torch.load(folder / "best_model.pth", weights_only=True) for folder in (killed, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not (killed / "last.pth").exists()
    main([f"--data_dir={data_dir}", f"--output_dir={killed}", *OPTIONS, "--resume"])
    assert capsys.readouterr().out.startswith(f"{killed} is finished: best validation accuracy ")


@pytest.fixture
def interrupted(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stopped by Ctrl-C in its second epoch."""
    from training import fit

    passes = iter(range(100))
    one_pass = fit.Training._pass

    def stop_later(self: fit.Training, *arguments: Any, **options: Any) -> Any:
        if next(passes) == 2:
            raise KeyboardInterrupt
        return one_pass(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fit.Training, "_pass", stop_later)
        with pytest.raises(KeyboardInterrupt):
            main([f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'models'}", *OPTIONS])
    return tmp_path / "models"


def test_nothing_interrupted_is_lost(data_dir: Path, interrupted: Path) -> None:
    before = (interrupted / "last.pth").read_bytes()
    with pytest.raises(DataError, match="holds an interrupted training: --resume goes on with it"):
        main([f"--data_dir={data_dir}", f"--output_dir={interrupted}", *OPTIONS])
    assert (interrupted / "last.pth").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "difference"), [("--seed=1", "--seed"), ("--batch_size=4", "--batch_size"), ("--epochs=7", "--epochs")]
)
def test_another_recipe_does_not_go_on(data_dir: Path, interrupted: Path, option: str, difference: str) -> None:
    with pytest.raises(DataError, match=f"of a training with other {difference}; --resume needs the same"):
        main([f"--data_dir={data_dir}", f"--output_dir={interrupted}", *OPTIONS, "--resume", option])


def test_other_photographs_do_not_go_on(interrupted: Path, tmp_path: Path) -> None:
    other = write_photos(tmp_path / "other", per_class=16)
    with pytest.raises(DataError, match="of a training with other photographs"):
        main([f"--data_dir={other}", f"--output_dir={interrupted}", *OPTIONS, "--resume"])


def test_damaged(data_dir: Path, interrupted: Path) -> None:
    last = interrupted / "last.pth"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"is damaged: .*; remove it and start anew"):
        main([f"--data_dir={data_dir}", f"--output_dir={interrupted}", *OPTIONS, "--resume"])
