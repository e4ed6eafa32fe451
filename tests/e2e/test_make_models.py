"""`make models MODEL=wallpaper_defect` on a few small pictures: from folders to an answer of a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from loadtest.checkers import check_reply
from tests.e2e.server import MARSERVE, serving
from tests.images import encode
from tests.paths import ROOT
from tests.tools import need

COLOURS = {"fading": (90, 200, 90), "mould": (40, 60, 200), "tear": (220, 40, 40)}  # 24, 8 and 3 pictures
TINY = "--architecture small_cnn --input_size 16 --epochs 3 --batch_size 8 --learning_rate 0.02 --workers 0 --no_mlflow"


def write_data(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for (label, colour), count in zip(COLOURS.items(), (24, 8, 3), strict=True):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(np.array(colour) + random.integers(-40, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
            (folder / label / f"{number}.png").write_bytes(encode(pixels, "PNG"))
    return folder


def make(*variables: str) -> subprocess.CompletedProcess[str]:
    """With the environment that the tests run in."""
    command = ["make", "--old-file=.venv-dev/dev.txt", f"DEV={Path(sys.executable).parent}", "models", *variables]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_from_folders_to_an_answer(tmp_path: Path) -> None:
    need("make")
    data, store = write_data(tmp_path / "images"), tmp_path / "store"
    places = [f"DATA={data}", f"MODELS={tmp_path / 'models'}", f"STORE={store}"]
    done = make("MODEL=wallpaper_defect", *places, f"ARGS={TINY}")
    assert done.returncode == 0, done.stdout + done.stderr
    meta = json.loads((tmp_path / "models" / "wallpaper_defect" / "meta.json").read_text())
    recipe = meta["recipe"]
    assert (recipe["bags"], recipe["loss"], recipe["sampling"], recipe["schedule"]) == (
        3,
        "focal",
        "weighted",
        "exponential",
    )
    assert meta["networks"][2]["folder"] == "bag_3"
    photo = data / "mould" / "0.png"
    with serving("--model-store", str(store)) as server:
        reply = httpx.post(f"{server.url}/predictions/wallpaper_defect", content=photo.read_bytes(), timeout=30)
        command = [*MARSERVE, "predict", "wallpaper_defect", str(photo), "--url", server.url, "--json"]
        predicted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert check_reply("ensemble_classification", photo.read_bytes(), reply.content, reply.status_code) == ""
    assert {entry["label"] for entry in reply.json()["top"]} == set(COLOURS)
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout) == {"file": str(photo), **reply.json()}
    command = [*MARSERVE, "evaluate", str(store / "wallpaper_defect.mar"), "--data_dir", str(data), "--json"]
    scored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(scored.stdout)["images"] == 35


@pytest.mark.parametrize("variables", [(), ("MODEL=nothing",), ("MODEL=long_tail",)])
def test_one_line_for_a_mistake(variables: tuple[str, ...]) -> None:
    """long_tail has a recipe, but is not served."""
    need("make")
    done = make(*variables)
    assert done.returncode == 2
    assert "MODEL must be one of " in done.stderr
    assert " digit" in done.stderr
    assert done.stderr.count("\n") == 1
