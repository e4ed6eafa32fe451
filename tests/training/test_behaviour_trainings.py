"""Both trainings on movements, from recordings to what an export and `marserve evaluate` take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handlers.trajectory import NAMES
from tests.training.people import write_people
from training import isolation_forest_ai, random_forest_ai
from training.behaviour import load
from training.bots import FAMILIES
from training.cli import DataError

SMALL = ["--no_mlflow", "--test_share=0.25"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("mouse"))


@pytest.fixture(scope="module")
def drag(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "drag"
    random_forest_ai.main([f"--data_dir={data_dir}", f"--output_dir={folder}", "--trees=10", "--leaves=50", *SMALL])
    return folder


def test_a_random_forest_tells_bots_from_people(drag: Path) -> None:
    forest, meta = load(drag)
    figures = meta["metrics"]
    assert figures["auc"] > 0.85
    assert figures["families"]["linear"]["auc"] > 0.95
    assert set(figures["families"]) == {*FAMILIES, "ruler"}
    assert set(figures["left_out"]) == {*FAMILIES, "ruler", "human_pc"}
    assert forest.n_estimators == len(forest.estimators_) == 10
    assert meta["serving"]["features"] == list(NAMES)
    assert len(meta["serving"]["reference"]) == len(NAMES)
    assert 0 < meta["serving"]["threshold"] < 1


def test_half_of_the_trees_know_the_path_only(drag: Path) -> None:
    forest, _ = load(drag)
    path = {NAMES.index(name) for name in random_forest_ai.PATH_FEATURES}
    used = [set(tree.tree_.feature[tree.tree_.feature >= 0].tolist()) for tree in forest.estimators_]
    assert all(features <= path for features in used[5:])
    assert not all(features <= path for features in used[:5])


def test_its_report_shows_everything(drag: Path) -> None:
    page = (drag / "report" / "index.html").read_text()
    for picture in ("curves", "scores", "importances", "movements"):
        assert f"{picture}.png" in page
        assert (drag / "report" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert "never seen" in page
    assert "fixed rules" in page


def test_its_test_folder_has_only_people_that_it_did_not_see(drag: Path) -> None:
    sources = {place.name for place in (drag / "test" / "human").iterdir()}
    assert len(sources - {"human_pc"}) == 2  # a quarter of eight
    for family in FAMILIES:
        assert {place.name for place in (drag / "test" / f"bot_{family}").iterdir()} == sources


def test_the_same_seed_gives_the_same_forest(drag: Path, data_dir: Path, tmp_path: Path) -> None:
    options = [f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'again'}", "--trees=10", "--leaves=50", *SMALL]
    random_forest_ai.main([*options, "--no_leave_out"])
    again, meta = load(tmp_path / "again")
    with np.load(drag / "rows.npz") as file:
        rows = file["features"]
    forest, first = load(drag)
    np.testing.assert_allclose(
        again.predict_proba(rows), forest.predict_proba(rows), atol=1e-12
    )  # threads add in any order
    assert meta["serving"] == first["serving"]
    assert meta["data"] == first["data"]


def test_an_isolation_forest_never_sees_a_bot(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ticket"
    isolation_forest_ai.main([f"--data_dir={data_dir}", f"--output_dir={folder}", "--trees=30", "--samples=64", *SMALL])
    _, meta = load(folder)
    serving = meta["serving"]
    assert serving["features"] == list(isolation_forest_ai.CHOSEN)
    assert set(serving["scaling"]) == {"mouse", "touch"}
    assert serving["calibration"] == sorted(serving["calibration"])
    assert meta["metrics"]["families"]["linear"]["auc"] > 0.6
    assert json.loads((folder / "meta.json").read_text())["script"] == "training/isolation_forest_ai.py"


def test_features_can_be_chosen(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation_forest_ai, "NAMES", NAMES)
    monkeypatch.setattr(isolation_forest_ai, "_CHOICE_TREES", 3)
    monkeypatch.setattr(isolation_forest_ai, "_MOST_CHOSEN", 2)
    folder = tmp_path / "chosen"
    options = [f"--data_dir={data_dir}", f"--output_dir={folder}", "--trees=5", "--samples=32", "--choose", *SMALL]
    isolation_forest_ai.main(options)
    _, meta = load(folder)
    assert 1 <= len(meta["serving"]["features"]) <= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trees=0"], "--trees must lie between"),
        (["--test_share=nan"], "--test_share must lie between"),
        (["--false_positives=0.9"], "--false_positives must lie between"),
    ],
)
def test_options_out_of_range(data_dir: Path, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        random_forest_ai.main([f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'x'}", "--no_mlflow", *options])


def test_a_finished_training_is_not_overwritten(drag: Path, data_dir: Path) -> None:
    with pytest.raises(DataError, match="holds a training"):
        random_forest_ai.main([f"--data_dir={data_dir}", f"--output_dir={drag}", *SMALL])


def test_no_recordings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no movements of people"):
        random_forest_ai.main([f"--data_dir={tmp_path}", f"--output_dir={tmp_path / 'x'}", *SMALL])


def test_a_damaged_training(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{}")
    (tmp_path / "model.skops").write_bytes(b"no zip")
    with pytest.raises(DataError, match="holds no finished training"):
        load(tmp_path)
