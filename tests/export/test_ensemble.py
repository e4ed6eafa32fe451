"""An ensemble becomes one graph: its mean, its networks' own answers, and the gate over both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export.__main__ import Notes, Sources, export
from export.errors import ExportError
from export.image_classifier import crops
from export.onnx_file import write_onnx
from export.parity import check_parity
from export.precision import Precision
from export.selftest import KINDS
from export.spec import SPECS
from export.wallpaper import SIDE, draw, main
from handlers import image
from handlers.spec import HandlerSpec
from tests.export.models import load, meta, unpack
from training.ensemble import Ensemble

LABELS = ["bubble", "fading", "mould", "seam", "stain", "tear"]
EXAMPLE = SPECS / "wallpaper_defect.jpg"


def write_checkpoint(folder: Path, count: int) -> Path:
    """Random networks, or one, as a training leaves them."""
    torch.manual_seed(0)
    folder.mkdir()
    ensemble = Ensemble(range(len(LABELS)), "small_cnn", (), count)
    for model in ensemble.members:
        model.train()(torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8))  # statistics, or all answers are alike
        nn.init.normal_(model.network.classifier[-1].weight)
    changes: dict[str, Any] = {"classes": LABELS, "members": {label: [label] for label in LABELS}}
    recipe = {"architecture": "small_cnn", "bags": count, "seed": 0}
    scores = {"val_accuracy": 0.5, "val_weighted_f1": 0.5, "val_macro_f1": 0.5, "val_agreement": 0.8}
    if count > 1:
        changes["networks"] = [{"folder": f"bag_{n}", "metrics": {}} for n in range(1, count + 1)]
    torch.save((ensemble if count > 1 else ensemble.members[0]).state_dict(), folder / "best_model.pth")
    (folder / "meta.json").write_text(json.dumps(meta(**changes, recipe=recipe, metrics=scores)))
    return folder / "best_model.pth"


def test_one_graph_that_answers_as_pytorch(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "models", 3)
    archive = export("wallpaper_defect", Sources(checkpoint), tmp_path / "store", Notes())
    folder = unpack(archive, tmp_path / "unpacked")
    assert [path.name for path in folder.glob("*.onnx")] == ["model.onnx"]
    graph = onnx.load(folder / "model.onnx").graph
    assert [output.name for output in graph.output] == ["probabilities", "members"]
    metadata = json.loads((folder / "metadata.json").read_bytes())
    assert [output["shape"] for output in metadata["interface"]["outputs"]] == [[None, 6], [None, 3, 6]]
    assert metadata["parity"]["max_difference"] < 1e-4
    (reply,) = load(folder).answer([EXAMPLE.read_bytes()])
    assert isinstance(reply, dict)
    ensemble = Ensemble(range(6), "small_cnn", (), 3).eval()
    ensemble.load_state_dict(torch.load(checkpoint, weights_only=True))
    pixels = torch.from_numpy(image.load(EXAMPLE.read_bytes(), 32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        (mean,), (each,) = ensemble(pixels)
    order = mean.argsort(descending=True).tolist()
    assert [entry["label"] for entry in reply["top"]] == [LABELS[index] for index in order[:5]]
    assert [entry["probability"] for entry in reply["top"]] == pytest.approx(mean[order[:5]].tolist(), abs=1e-5)
    assert reply["agreement"] == pytest.approx(float((each.argmax(1) == order[0]).float().mean()), abs=1e-6)
    again = export("wallpaper_defect", Sources(archive=archive), tmp_path / "again", Notes())
    assert load(unpack(again, tmp_path / "unpacked_again")).answer([EXAMPLE.read_bytes()]) == [reply]
    card = archive.with_suffix(".md").read_text()
    assert "An ensemble of 3 networks" in card
    assert "--bags 3" in card


def test_what_is_no_ensemble(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is one network, no ensemble: train that with --bags 3"):
        export("wallpaper_defect", Sources(write_checkpoint(tmp_path / "one", 1)), tmp_path / "store", Notes())
    checkpoint = write_checkpoint(tmp_path / "three", 3)
    with pytest.raises(ExportError, match="wallpaper_defect is for ensemble_classification"):
        export("wallpaper_defect", Sources(checkpoint), tmp_path / "store", Notes(), Precision("float16"))


class Two(nn.Module):
    """The mean of two networks, whose own answers are `apart` from it on either side."""

    def __init__(self, apart: float) -> None:
        super().__init__()
        self.apart = apart

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        red = pixels.float().mean(dim=(1, 2))[:, 0] / 512 + 0.2  # (B,)
        mean = torch.stack([red, 1 - red], dim=1)
        shift = torch.tensor([self.apart, -self.apart])
        return mean, torch.stack([mean + shift, mean - shift], dim=1)


def test_a_network_that_is_off_fails_though_the_mean_is_right(tmp_path: Path) -> None:
    inputs = crops(EXAMPLE, 8)[:5]
    write_onnx(Two(0.05), (8, 8, 3), tmp_path / "model.onnx", ("probabilities", "members"))
    assert check_parity(Two(0.05), tmp_path / "model.onnx", inputs).inputs == 5
    with pytest.raises(ExportError, match="parity fails at batch 1 for 5 of 5 inputs"):
        check_parity(Two(0.051), tmp_path / "model.onnx", inputs)


def test_a_self_test_wants_networks_that_agree() -> None:
    margin, spec = KINDS["ensemble_classification"].margin, HandlerSpec("ensemble_classification")
    top = [{"label": "tear", "probability": 0.9}, {"label": "mould", "probability": 0.1}]
    assert margin({"top": top, "agreement": 1.0}, spec) == pytest.approx(0.4)
    assert margin({"top": top, "agreement": 0.666667}, spec) == 0


def test_the_example_is_drawn_by_the_project(tmp_path: Path) -> None:
    main([f"--output={tmp_path / 'drawn.jpg'}"])
    drawn, shipped = (image.decode(path.read_bytes()) for path in (tmp_path / "drawn.jpg", EXAMPLE))
    assert drawn.shape == shipped.shape == draw().shape == (SIDE, SIDE, 3)
    assert np.abs(drawn.astype(int) - shipped.astype(int)).mean() < 2
