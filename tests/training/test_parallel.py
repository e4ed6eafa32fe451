"""Two processes that train together, as torchrun starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.metrics import f1_score

from tests.training.photos import write_photos
from training import parallel
from training.assess import assess
from training.captcha_dataset import scan
from training.fit import Machine
from training.network import ImageClassifier
from training.recipe import from_record
from training.splits import split

ROOT = Path(__file__).parents[2]
OPTIONS = ["--input_size=32", "--batch_size=8", "--epochs=3", "--workers=1", "--validation_share=0.25", "--no_mlflow"]


def test_alone_nothing_happens() -> None:
    tensor = torch.ones(3)
    parallel.average([tensor])
    assert (parallel.rank(), parallel.size(), tensor.tolist()) == (0, 1, [1, 1, 1])


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_average(tmp_path: Path) -> None:
    script = tmp_path / "average.py"
    script.write_text(
        "import sys, torch\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from training import parallel\n"
        "parallel.join()\n"
        "tensors = [torch.full((2, 2), float(parallel.rank())), torch.tensor(3.0 + parallel.rank())]\n"
        "parallel.average(tensors)\n"
        "assert [t.tolist() for t in tensors] == [[[0.5, 0.5], [0.5, 0.5]], 3.5]\n"
        "parallel.leave()\n"
    )
    done = torchrun(str(script))
    assert done.returncode == 0, done.stderr


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    data_dir = write_photos(tmp_path / "images")
    done = torchrun(
        "training/train_efficientnet.py", f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'm'}", *OPTIONS
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/3") == 1  # one of them speaks
    meta = json.loads((tmp_path / "m" / "meta.json").read_text())
    assert meta["machine"]["processes"] == 2
    assert [scores["epoch"] for scores in meta["history"]] == [1, 2, 3]
    weights = torch.load(tmp_path / "m" / "best_model.pth", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    model = ImageClassifier([0, 0, 1, 1])
    model.load_state_dict(weights)
    _, validation = split(scan(data_dir), 0.25, seed=0)
    said = assess(model, validation, meta["members"], from_record(meta["recipe"]), Machine(torch.device("cpu"), 0))
    for average in ("weighted", "macro"):  # over what both have seen
        f1 = f1_score(said.truth, said.predicted, average=average, zero_division=0)
        assert meta["metrics"][f"val_{average}_f1"] == pytest.approx(f1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--batch_size=9", "--batch_size 9 cannot be shared evenly by 2 processes"),
        ("--tune=2", "--tune runs in one process"),
    ],
)
def test_what_they_refuse(tmp_path: Path, option: str, message: str) -> None:
    data_dir = write_photos(tmp_path / "images")
    done = torchrun(
        "training/train_efficientnet.py", f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'm'}", *OPTIONS, option
    )
    assert done.returncode != 0
    assert message in done.stderr
