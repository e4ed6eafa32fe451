"""A table of numbers -> a forest, its figures on rows that it never saw, and one line for every mistake."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from training.behaviour import load
from training.cli import DataError
from training.train_table import main, read_table

HEAD = ["width", "label", "height"]


def write_table(path: Path, rows: int = 120) -> Path:
    """Three labels that two numbers tell apart, but for some noise."""
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(HEAD)
        for row in range(rows):
            width, height = random.normal(size=2) * 0.6 + [(0, 0), (2, 0), (0, 2)][row % 3]
            table.writerow([width, "abc"[row % 3], height])
    return path


def train(folder: Path, *options: str) -> dict[str, Any]:
    data = f"--data={write_table(folder / 'table.csv')}"
    main([data, f"--output_dir={folder / 'model'}", "--no_mlflow", "--trees=10", *options])
    meta: dict[str, Any] = json.loads((folder / "model" / "meta.json").read_text())
    return meta


def test_the_figures_are_those_of_the_rows_that_were_kept_out(tmp_path: Path) -> None:
    meta = train(tmp_path)
    assert meta["serving"] == {"features": ["width", "height"], "labels": ["a", "b", "c"]}
    assert meta["data"]["rows"] == 120
    assert (meta["data"]["training_rows"], meta["data"]["test_rows"]) == (96, 24)
    assert meta["data"]["rows_per_label"] == {"a": 40, "b": 40, "c": 40}
    forest, _ = load(tmp_path / "model")
    test = read_table(tmp_path / "model" / "test.csv", "label")
    assert test.features == ["width", "height"]
    predicted = [meta["serving"]["labels"][index] for index in forest.predict(test.values)]
    assert meta["metrics"]["test_accuracy"] == pytest.approx(accuracy_score(test.labels, predicted))
    assert meta["metrics"]["majority_class"] == pytest.approx(1 / 3)
    assert meta["metrics"]["test_accuracy"] > 0.7
    every = read_table(tmp_path / "table.csv", "label")
    kept = {tuple(row) for row in test.values.tolist()}
    assert kept <= {tuple(row) for row in every.values.tolist()}
    assert len(kept) == 24
    np.testing.assert_array_equal(np.load(tmp_path / "model" / "rows.npz")["features"], test.values)


def test_the_seed_decides(tmp_path: Path) -> None:
    for name in ("one", "two", "other"):
        (tmp_path / name).mkdir()
    first = train(tmp_path / "one")
    assert train(tmp_path / "two")["metrics"] == first["metrics"]
    train(tmp_path / "other", "--seed=1")
    rows = [np.load(tmp_path / name / "model" / "rows.npz")["features"] for name in ("one", "two", "other")]
    assert (rows[0] == rows[1]).all()
    assert (rows[0] != rows[2]).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'label' for the label .*; it has none"),
        ("a,b\n1,2\n", "has no column 'label' for the label .*; it has a, b"),
        ("label\nx\n", "needs columns of numbers beside 'label'"),
        ("a,a,label\n1,2,x\n", "each with a name of its own"),
        ("a,label\n1,x\n1,x,2\n", "row 2 has 3 columns, the first line 2"),
        ("a,label\n1,x\n,x\n", "row 2: could not convert"),
        ("a,label\nnan,x\n", "row 1 has a number that is not finite"),
        ("a,label\n1e39,x\n", "row 1 has a number that is not finite in float32"),
        ("a,label\n1,x\n2,y\n", "too few rows to keep some of every label out"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        main([f"--data={tmp_path / 'table.csv'}", f"--output_dir={tmp_path / 'model'}", "--no_mlflow"])
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--trees=0", "--trees must lie between 1 and 2000"),
        ("--leaves=1", "--leaves must lie between 2 and 100000"),
        ("--test_share=1", "--test_share must lie between 0 and 1"),
        ("--seed=-1", "--seed must lie between"),
        ("--label=colour", "has no column 'colour'"),
    ],
)
def test_wrong_options(tmp_path: Path, option: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(tmp_path, option)


def test_a_folder_with_a_training_stays(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(DataError, match="holds a training"):
        train(tmp_path)
    with pytest.raises(DataError, match=r"missing\.csv cannot be read"):
        main(["--data=missing.csv", f"--output_dir={tmp_path / 'other'}", "--no_mlflow"])
