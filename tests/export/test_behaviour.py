"""Trainings on movements -> archives that answer like the forests they were made of."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from sklearn.ensemble import RandomForestClassifier

from export import behaviour, random_forest
from export.__main__ import Notes, Sources, export
from export.errors import ExportError
from marserve.archive import read_archive
from marserve.evaluate_movements import evaluate
from tests.training.people import write_people
from training import isolation_forest_ai, random_forest_ai
from training.behaviour import load


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("behaviour")
    data = f"--data_dir={write_people(folder / 'mouse')}"
    shared = ["--no_mlflow", "--test_share=0.25"]
    options = ["--trees=10", "--leaves=50", "--no_leave_out"]
    random_forest_ai.main([data, f"--output_dir={folder / 'drag_pattern'}", *options, *shared])
    isolation_forest_ai.main([data, f"--output_dir={folder / 'ticket_slice'}", "--trees=20", "--samples=64", *shared])
    return folder


@pytest.mark.parametrize("name", ["drag_pattern", "ticket_slice"])
def test_an_archive_repeats_the_figures_of_the_training(name: str, models: Path, tmp_path: Path) -> None:
    """The files of the test folder, through the handlers, give what the training measured on its rows."""
    checkpoint = models / name / "model.skops"
    archive = export(name, Sources(checkpoint), tmp_path, Notes())
    meta = json.loads((models / name / "meta.json").read_text())
    measured, problems = evaluate(read_archive(archive), models / name / "test")
    assert problems == []
    assert measured.human_movements == meta["metrics"]["movements"]
    assert measured.auc == pytest.approx(meta["metrics"]["auc"], abs=1e-3)
    assert measured.false_positives == pytest.approx(meta["metrics"]["false_positives"], abs=0.01)
    found = read_archive(archive)
    assert found.metadata["parity"]["max_difference"] <= behaviour.TOLERANCE
    assert found.metadata["parity"]["flipped"] == 0
    assert "Not measured yet" in archive.with_suffix(".md").read_text()


def test_measured_figures_stand_on_the_card(models: Path, tmp_path: Path) -> None:
    checkpoint = models / "drag_pattern" / "model.skops"
    measured, _ = evaluate(
        read_archive(export("drag_pattern", Sources(checkpoint), tmp_path, Notes())), models / "drag_pattern" / "test"
    )
    file = tmp_path / "test.json"
    plain = {name: getattr(measured, name) for name in measured.__slots__}
    plain["families"] = {name: {key: getattr(m, key) for key in m.__slots__} for name, m in measured.families.items()}
    plain["sources"] = {}
    file.write_text(json.dumps(plain))
    archive = export("drag_pattern", Sources(checkpoint), tmp_path, Notes(evaluation={"test": file}))
    card = archive.with_suffix(".md").read_text()
    assert f"| **all** | {measured.bot_movements:,} | {measured.auc:.4f} |" in card
    assert "| linear | " in card
    assert "training/random_forest_ai.py" in card


def test_packed_again_it_is_the_same_model(models: Path, tmp_path: Path) -> None:
    first = export("ticket_slice", Sources(models / "ticket_slice" / "model.skops"), tmp_path, Notes())
    again = export("ticket_slice", Sources(archive=first), tmp_path / "again", Notes())
    assert read_archive(again).handler == read_archive(first).handler
    with zipfile.ZipFile(first) as a, zipfile.ZipFile(again) as b:
        assert a.read("model.onnx") == b.read("model.onnx")


def test_the_wrong_kind_of_forest(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="another kind of model"):
        export("drag_pattern", Sources(models / "ticket_slice" / "model.skops"), tmp_path, Notes())
    with pytest.raises(ExportError, match="does not exist"):
        export("drag_pattern", Sources(tmp_path / "model.skops"), tmp_path, Notes())


def test_another_forest_does_not_pass_the_gate(models: Path) -> None:
    with np.load(models / "drag_pattern" / "rows.npz") as file:
        rows = file["features"]
    forest, _ = load(models / "drag_pattern")
    path = models / "other.onnx"
    path.write_bytes(random_forest.convert(forest, rows.shape[1]).SerializeToString())
    wrong = forest.predict_proba(rows)[:, 1] + 1e-3
    with pytest.raises(ExportError, match="scikit-learn"):
        behaviour.check_parity(path, rows, wrong, wrong, 0.5)


def trained(
    depth: int | None = None,
) -> tuple[RandomForestClassifier, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    random = np.random.default_rng(0)
    rows = random.normal(0, 1, (3000, 5)).astype(np.float32)
    truth = rows[:, 0] * rows[:, 1] + random.normal(0, 0.3, 3000) > 0
    return RandomForestClassifier(20, max_depth=depth, random_state=0).fit(rows, truth), rows


def test_a_row_on_a_threshold_goes_where_scikit_learn_sends_it(tmp_path: Path) -> None:
    forest, rows = trained()
    thresholds = np.concatenate([tree.tree_.threshold[tree.tree_.feature == 0] for tree in forest.estimators_])
    near = thresholds.astype(np.float32)
    edges = np.concatenate([np.nextafter(near, np.float32(-9)), near, np.nextafter(near, np.float32(9))])
    rows = np.tile(rows[:1], (len(edges), 1))
    rows[:, 0] = edges
    session = ort.InferenceSession(random_forest.convert(forest, 5).SerializeToString())
    found = session.run(None, {"features": rows})[0][:, 0]
    np.testing.assert_allclose(found, forest.predict_proba(rows)[:, 1], atol=1e-6)
    assert len(session.get_outputs()) == 1


def test_forests_that_cannot_be_converted() -> None:
    forest, _ = trained()
    with pytest.raises(ExportError, match="not trained"):
        random_forest.convert(RandomForestClassifier(), 5)
    with pytest.raises(ExportError, match="5 features"):
        random_forest.convert(forest, 6)
    stump = RandomForestClassifier(2, random_state=0).fit(np.zeros((4, 5), np.float32), [0, 1, 0, 1])
    with pytest.raises(ExportError, match="no split"):
        random_forest.convert(stump, 5)


def test_round_down_is_the_largest_float32_below() -> None:
    exact = np.array([0.5, 0.1, -0.1, 1e-50, 16777217.0])
    down = random_forest.round_down(exact)
    assert (down <= exact).all()
    assert (np.nextafter(down, np.float32(np.inf)) > exact).all()
