"""A training on a table -> a network that gives scikit-learn's probabilities, or no network at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import skops.io
from skl2onnx import convert_sklearn
from sklearn.ensemble import RandomForestClassifier

from export import tabular
from export.errors import ExportError
from export.tabular import TOLERANCE, export_table
from handlers.network import Network
from handlers.pipeline import Pipeline
from handlers.spec import read_spec
from tests.training.test_train_table import train
from training.behaviour import load
from training.train_table import read_table


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    train(folder)
    return folder / "model"


def handler() -> dict[str, Any]:
    return {"task": "tabular_classification", "network": {"file": "model.onnx", "input_type": "float32"}}


def test_served_answers_are_scikit_learns(model: Path, tmp_path: Path) -> None:
    section = handler()
    records = export_table(model / "model.skops", section, tmp_path / "model.onnx")
    assert (section["features"], section["labels"]) == (["width", "height"], ["a", "b", "c"])
    assert records["parity"]["inputs"] == 24
    assert records["parity"]["max_difference"] <= TOLERANCE
    test = read_table(model / "test.csv", "label")
    expected = load(model)[0].predict_proba(test.values)
    pipeline = Pipeline.load(tmp_path, read_spec({"handler": section}))
    replies = pipeline.answer([{"features": row} for row in test.values.tolist()])
    found = np.array([list(reply["probabilities"].values()) for reply in replies if isinstance(reply, dict)])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert isinstance(pipeline.network, Network)


def test_only_the_probabilities_leave_the_network(model: Path, tmp_path: Path) -> None:
    export_table(model / "model.skops", handler(), tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["probabilities"]
    assert [(i.name, i.shape[1:]) for i in session.get_inputs()] == [("features", [2])]


def test_another_forest_than_the_network_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where skl2onnx knew the model wrongly."""
    other = RandomForestClassifier(3, random_state=9).fit([[0, 0], [1, 0], [0, 1]], [0, 1, 2])
    monkeypatch.setattr(tabular, "convert_sklearn", lambda _, *rest, **named: convert_sklearn(other, *rest, **named))
    with pytest.raises(ExportError, match=r"row \d+ at batch 1: ONNX says .*, scikit-learn .*: over 1e-05 apart"):
        export_table(model / "model.skops", handler(), tmp_path / "model.onnx")


def test_what_is_no_training_on_a_table(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"does not exist; training/train_table\.py writes"):
        export_table(tmp_path / "model.skops", handler(), tmp_path / "model.onnx")
    skops.io.dump(RandomForestClassifier(1).fit([[0], [1]], [0, 1]), tmp_path / "model.skops")
    with pytest.raises(ExportError, match="holds no finished training"):
        export_table(tmp_path / "model.skops", handler(), tmp_path / "model.onnx")
