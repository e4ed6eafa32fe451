"""Measured figures in the records and on the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export.errors import ExportError
from export.evaluation import read_evaluation, table

MEASURED: dict[str, Any] = {
    "model": "captcha_image",
    "version": "1.0",
    "images": 4500,
    "unreadable": 1,
    "accuracy": 0.91234,
    "macro_f1": 0.9,
    "weighted_f1": 0.9,
    "log_loss": 0.25,
    "calibration_error": 0.0123,
    "classes": {"animal/cat": {"images": 50, "accuracy": 1.0}},
}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "test.json").write_text(json.dumps(MEASURED | changes))
    return folder / "test.json"


def test_the_figures_travel_and_the_rest_stays(tmp_path: Path) -> None:
    read = read_evaluation(write(tmp_path), "captcha_image", "1.0")
    assert read == {name: value for name, value in MEASURED.items() if name not in ("model", "version", "classes")}
    assert (
        table({"evaluation": {"test": read}}).splitlines()[-1]
        == "| `data/test` | 4,500 | 0.9123 (0.9038 to 0.9204) | 0.9000 | 0.2500 | 0.0123 |"
    )


def test_nothing_measured_is_said() -> None:
    assert table({}).startswith("Not measured yet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "2.0"}, r"is of captcha_image 2.0, not of captcha_image 1.0"),
        ({"model": "other"}, r"is of other 1.0, not of captcha_image 1.0"),
        ({"accuracy": 1.5}, "accuracy: Input should be less than or equal to 1"),
        ({"accuracy": "0.9"}, "accuracy: Input should be a valid number"),
        ({"images": 0}, "images: Input should be greater than or equal to 1"),
    ],
)
def test_another_models_or_wrong_figures(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        read_evaluation(write(tmp_path, **changes), "captcha_image", "1.0")


def test_no_evaluation_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("accuracy 0.9")
    with pytest.raises(ExportError, match="is not what `marserve evaluate captcha_image --json` prints: file: Invalid"):
        read_evaluation(tmp_path / "text.json", "captcha_image", "1.0")
    with pytest.raises(ExportError, match="cannot be read: No such file"):
        read_evaluation(tmp_path / "missing.json", "captcha_image", "1.0")


def test_of_an_embedding_the_card_has_classes_and_groups(tmp_path: Path) -> None:
    scores = {"precision_at_1": 0.5, "precision_at_5": 0.4, "chance": 0.1}
    measured = scores | {"model": "e", "version": "1", "images": 4500, "unreadable": 0, "classes": 90, "by_class": {}}
    groups = {"images": 4500, "precision_at_1": 0.9, "precision_at_5": 0.8, "chance": 0.5}
    (tmp_path / "test.json").write_text(json.dumps(measured | {"groups": groups}))
    (tmp_path / "flat.json").write_text(json.dumps(measured | {"groups": None}))
    read = {part: read_evaluation(tmp_path / f"{part}.json", "e", "1") for part in ("test", "flat")}
    assert table({"evaluation": read}).splitlines()[2:] == [
        "| `data/test` | 4,500 | class, of 90 | 0.5000 | 0.4000 | 0.1000 |",
        "| `data/test` | 4,500 | group | 0.9000 | 0.8000 | 0.5000 |",
        "| `data/flat` | 4,500 | class, of 90 | 0.5000 | 0.4000 | 0.1000 |",
    ]
    (tmp_path / "test.json").write_text(json.dumps(measured | {"groups": None, "chance": 2}))
    with pytest.raises(ExportError, match="chance: Input should be less than or equal to 1"):
        read_evaluation(tmp_path / "test.json", "e", "1")


def test_of_faces_the_card_has_recall_and_false_alarms(tmp_path: Path) -> None:
    measured = {"model": "f", "version": "1", "images": 4, "unreadable": 0, "overlap": 0.3, "faces": 18, "found": 15}
    measured |= {"false_alarms": 3, "images_with_false_alarms": 2, "recall": 15 / 18, "precision": 15 / 18}
    none = measured | {"images": 2022, "faces": 0, "found": 0, "false_alarms": 36, "recall": None, "precision": None}
    for part, figures in (("faces", measured), ("no_faces", none)):
        (tmp_path / f"{part}.json").write_text(json.dumps(figures | {"by_image": {}}))
    read = {part: read_evaluation(tmp_path / f"{part}.json", "f", "1") for part in ("faces", "no_faces")}
    assert table({"evaluation": read}).splitlines()[2:] == [
        "| `data/faces` | 4 | 18 | 15 | 0.83 (0.61 to 0.94) | 0.83 | 3, in 2 images |",
        "| `data/no_faces` | 2,022 | 0 | 0 |  |  | 36, in 2 images |",
    ]
