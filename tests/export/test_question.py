"""The models of one task: a checkpoint of another network becomes an archive whose words are its spec's."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from export.__main__ import Notes, Sources, export
from export.selftest import KINDS, record, staged
from handlers.pipeline import Pipeline
from handlers.selftest import replay
from handlers.spec import HandlerSpec, NetworkSpec, QuestionSpec, read_spec
from tests.export.models import EXAMPLE, SIDE, load, meta, unpack
from tests.paths import ROOT
from training.network import ImageClassifier

RELEASED = ROOT / "model_store" / "beverage.mar"
ANSWERS: dict[str, bool | None] = {"animal": True, "object": False}
QUESTION = QuestionSpec("is_animal", ANSWERS, {"animal": "It is.", "object": "No."}, 0.7, "Hm.")


def checkpoint(folder: Path, labels: list[str], architecture: str, head: list[int]) -> Path:
    """Random weights, as a training leaves them."""
    torch.manual_seed(0)
    model = ImageClassifier(range(len(labels)), architecture, head)
    model.train()(torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8))  # statistics, or all answers are alike
    folder.mkdir()
    torch.save(model.state_dict(), folder / "best_model.pth")
    changes: dict[str, Any] = {"classes": labels, "members": {label: [label] for label in labels}}
    recipe = {"architecture": architecture, "head": head, "seed": 0}
    size = {"input_size": 64, "resize": "crop"}
    (folder / "meta.json").write_text(json.dumps(meta(**changes, preprocessing=size, recipe=recipe)))
    return folder / "best_model.pth"


@pytest.mark.parametrize(
    ("name", "labels", "architecture", "head", "field"),
    [
        ("beverage", ["empty", "unclear", "with_beverage"], "mobilenet_v3_small", [256], "has_beverage"),
        ("reusable_container", ["disposable", "reusable"], "resnet18", [512], "is_reusable"),  # quicker than resnet50
    ],
)
def test_a_spec_and_a_checkpoint_make_a_model(
    name: str, labels: list[str], architecture: str, head: list[int], field: str, tmp_path: Path
) -> None:
    archive = export(
        name, Sources(checkpoint(tmp_path / "models", labels, architecture, head)), tmp_path / "store", Notes()
    )
    folder = unpack(archive, tmp_path / "model")
    model = load(folder)
    question = read_spec(yaml.safe_load((folder / "model-config.yaml").read_bytes())).question
    assert question is not None
    content = EXAMPLE.read_bytes()
    (answer,) = model.answer([content])
    assert isinstance(answer, dict)
    assert answer[field] is question.answers[answer["predicted_class"]]
    assert list(answer["probabilities"]) == labels
    if question.confidence_threshold is None:
        assert "is_valid" not in answer
        assert answer["message"] == question.messages[answer["predicted_class"]]
    else:
        (sure,) = model.answer([{"data": base64.b64encode(content).decode(), "confidence_threshold": 0}])
        assert isinstance(sure, dict)
        assert sure["message"] == question.messages[sure["predicted_class"]]
    again = export(name, Sources(archive=archive), tmp_path / "again", Notes())
    assert load(unpack(again, tmp_path / "again" / "model")).answer([content]) == [answer]


def test_the_self_test_stays_away_from_the_threshold(small_onnx: Path, tmp_path: Path) -> None:
    """Where the confidence is near to it, the next CPU could call valid what is not."""
    network = {"file": "model.onnx", "input_shape": [SIDE, SIDE, 3]}
    question = {"field": "is_animal", "answers": ANSWERS, "messages": {"animal": "It is.", "object": "No."}}
    section = {"task": "yes_no", "labels": list(ANSWERS), "network": network, "example": {"file": "example.jpg"}}

    def asked(threshold: float) -> list[str]:
        """The files of the cases that are recorded."""
        own = question | {"confidence_threshold": threshold, "unsure": "?"}
        spec = read_spec({"handler": section | {"question": own}})
        folder = tmp_path / str(threshold)
        folder.mkdir()
        pipeline = staged(spec, {"model.onnx": small_onnx, "example.jpg": EXAMPLE}, folder / "model")
        if not record(spec, pipeline, folder / "model", folder):
            return []
        return [case["file"] for case in json.loads((folder / "selftest.json").read_text())["cases"]]

    assert "example.jpg" in asked(0.5)
    (answer,) = load_small(small_onnx, tmp_path).answer([EXAMPLE.read_bytes()])
    assert isinstance(answer, dict)
    assert "example.jpg" not in asked(answer["confidence"] - KINDS["yes_no"].tolerance)


def load_small(network: Path, folder: Path) -> Pipeline:
    files = {"model.onnx": network}
    kept = HandlerSpec("image_classification", tuple(ANSWERS), NetworkSpec("model.onnx", (SIDE, SIDE, 3)))
    return staged(kept, files, folder / "small")


def test_the_margin_of_an_answer() -> None:
    margin = KINDS["yes_no"].margin
    answer = {"confidence": 0.72, "probabilities": {"animal": 0.72, "object": 0.28}}
    assert margin(answer, HandlerSpec("yes_no", question=QUESTION)) == pytest.approx(0.02)
    plain = QuestionSpec("is_animal", ANSWERS, QUESTION.messages)
    assert margin(answer, HandlerSpec("yes_no", question=plain)) == pytest.approx(0.22)


def test_the_released_model_knows_its_example(tmp_path: Path) -> None:
    folder = unpack(RELEASED, tmp_path / "model")
    model = load(folder)
    assert replay(folder, model) >= 2
    (answer,) = model.answer([(ROOT / "export" / "specs" / "beverage.jpg").read_bytes()])
    assert isinstance(answer, dict)
    assert (answer["has_beverage"], answer["predicted_class"], answer["is_valid"]) == (True, "with_beverage", True)
    assert RELEASED.stat().st_size < 20e6
    card = RELEASED.with_suffix(".md").read_text()
    assert "A stand-in, trained on drawings. It is not for photographs" in card
