"""What an export records: few requests, answers far enough from others, and files that travel inside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export.__main__ import main
from export.onnx_file import write_onnx
from export.selftest import BERTH, KINDS, MOST, record, rounded, staged
from handlers.answers import difference
from handlers.selftest import ask, replay
from handlers.spec import HandlerSpec, NetworkSpec
from handlers.trajectory import NAMES
from tests.e2e.archives import read_files
from tests.export.models import EXAMPLE, ROOT, load, unpack, write_pool
from tests.handlers.networks import write_scorer

MOVEMENT = ROOT / "export" / "specs" / "drag_pattern.json"


def recorded(path: Path) -> Any:
    return json.loads((path / "selftest.json").read_text())


def test_an_archive_holds_and_passes_its_self_test(exported: Path, tmp_path: Path) -> None:
    folder = unpack(exported, tmp_path / "unpacked")
    cases = recorded(folder)["cases"]
    assert 1 <= replay(folder, load(folder)) == len(cases) <= MOST
    files = {case["file"] for case in cases}
    assert {name for name in read_files(exported) if name.startswith("selftest/")} == files - {"example.jpg"}
    assert json.loads((folder / "metadata.json").read_text())["interface"]["outputs"][0]["name"] == "probabilities"


def test_its_answers_are_not_near_to_others(exported: Path, tmp_path: Path) -> None:
    folder = unpack(exported, tmp_path / "unpacked")
    found = recorded(folder)
    kind = KINDS["image_classification"]
    assert found["tolerance"] == kind.tolerance
    for case in found["cases"]:
        low, high = sorted(case["answer"]["probabilities"].values())
        assert high - low >= 2 * BERTH * kind.tolerance
        body = (folder / case["file"]).read_bytes()
        assert difference(case["answer"], ask(load(folder), body), 1e-4) == ""


class Even(nn.Module):
    """uint8 pixels (B, 8, 8, 3) -> (B, 2): half and half, whatever they show."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.softmax(pixels.float().mean(dim=(1, 2))[:, :2] * 0, dim=1)


def test_a_network_that_cannot_decide_has_none(tmp_path: Path) -> None:
    write_onnx(Even(), (8, 8, 3), tmp_path / "model.onnx")
    network = NetworkSpec("model.onnx", (8, 8, 3))
    spec = HandlerSpec("image_classification", ("a", "b"), network, example={"file": "example.jpg"})
    files = {"model.onnx": tmp_path / "model.onnx", "example.jpg": EXAMPLE}
    pipeline = staged(spec, files, tmp_path / "model")
    assert record(spec, pipeline, tmp_path / "model", tmp_path) == {}
    assert not (tmp_path / "selftest.json").exists()
    assert record(replace(spec, example={}), pipeline, tmp_path / "model", tmp_path) == {}


@pytest.mark.parametrize("bias", [0.0, 30.0])
def test_movements_of_both_sides(bias: float, tmp_path: Path) -> None:
    """A model of the straightness alone: the example, and what programs make of it, curved and straight."""
    weights = [40.0 if name == "straightness" else 0.0 for name in NAMES]
    write_scorer(tmp_path / "model.onnx", weights, bias - 38.0)
    network = NetworkSpec("model.onnx", (len(NAMES),), "float32", ("human",))
    spec = HandlerSpec(
        "trajectory_classification",
        ("bot", "human"),
        network,
        example={"file": "example.json"},
        features=NAMES,
        reference=(0.0,) * len(NAMES),
    )
    files = {"model.onnx": tmp_path / "model.onnx", "example.json": MOVEMENT}
    pipeline = staged(spec, files, tmp_path / "model")
    made = record(spec, pipeline, tmp_path / "model", tmp_path)
    cases = recorded(tmp_path)["cases"]
    assert len(cases) == MOST
    labels = {case["answer"]["label"] for case in cases}
    assert labels == ({"human", "bot"} if bias == 0 else {"human"})
    assert set(made) == {"selftest.json", "selftest"}
    assert {f"selftest/{path.name}" for path in made["selftest"].iterdir()} <= {case["file"] for case in cases}
    pointers = {json.loads(path.read_text())["pointer"] for path in made["selftest"].iterdir()}
    assert pointers <= {"mouse", "touch"}
    for case in cases:
        assert abs(case["answer"]["score"] - 0.5) >= BERTH * recorded(tmp_path)["tolerance"]


def test_a_challenge_is_held_to_its_form(tmp_path: Path) -> None:
    main(["captcha_challenge", f"--pool={write_pool(tmp_path / 'pool')}", f"--output_dir={tmp_path}"])
    folder = unpack(tmp_path / "captcha_challenge.mar", tmp_path / "unpacked")
    (case,) = recorded(folder)["cases"]
    assert case["json"] == {"kind": "drag_drop", "count": 6}
    assert case["form"]["pool"] == {"size": "number", "groups": {"*": "number"}}
    assert "answer" not in case
    other = write_pool(tmp_path / "other", ("left", "right"), 4)
    from handlers.pipeline import Pipeline
    from handlers.spec import read_spec

    pipeline = Pipeline.load(folder, read_spec({"handler": {"task": "random_images", "pool": "pool"}}), pool=other)
    assert replay(folder, pipeline) == 1


def test_rounding() -> None:
    assert rounded({"a": 0.123456, "b": [1, True, "x", 0.00004]}) == {"a": 0.1235, "b": [1, True, "x", 0.0]}
