"""The report in a real browser, and what it is drawn from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import page
from tests.training.photos import write_photos
from training.assess import Assessment
from training.captcha_dataset import Photo, classes_of, scan
from training.cli import DataError
from training.report import main, write_report
from training.train_image import main as train

TINY = ["--input_size=32", "--batch_size=8", "--epochs=2", "--workers=0", "--no_mlflow", "--validation_share=0.25"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    data_dir = write_photos(folder / "images")
    train([f"--data_dir={data_dir}", f"--output_dir={folder / 'models'}", *TINY])
    return folder


@pytest.fixture
def assessment(folder: Path) -> Assessment:
    """Three cats, of which the second is taken for an object with little and the third with great confidence."""
    photos = [photo for photo in scan(folder / "images") if photo.class_name == "cat"][:3]
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.05, 0.95]], np.float32)
    return Assessment(photos, classes_of(scan(folder / "images")), probabilities)


def test_what_an_assessment_knows(assessment: Assessment) -> None:
    assert assessment.truth.tolist() == [0, 0, 0]
    assert assessment.predicted.tolist() == [0, 1, 1]
    assert assessment.right.tolist() == [True, False, False]
    assert assessment.mistakes().tolist() == [2, 1]
    assert assessment.accuracy_of_classes() == {"animal/cat": pytest.approx(1 / 3)}


def test_the_page(folder: Path, tmp_path: Path) -> None:
    meta: dict[str, Any] = json.loads((folder / "models" / "meta.json").read_text())
    with page() as (opened, problems):
        opened.goto((folder / "models" / "report" / "index.html").as_uri())
        pictures = opened.locator("img").evaluate_all("all => all.map(one => [one.alt, one.naturalWidth])")
        assert len(pictures) == 5
        assert all(alt and width > 200 for alt, width in pictures)
        assert opened.locator(".figure").inner_text() == f"{meta['metrics']['val_accuracy']:.4f}"
        opened.get_by_text("all 4 classes").click()
        assert opened.get_by_role("cell", name="animal/cat").is_visible()
        assert meta["data"]["fingerprint_sha256"] in opened.content()
        assert not problems
        opened.set_viewport_size({"width": 380, "height": 800})
        assert opened.evaluate("document.documentElement.scrollWidth") <= 380  # fits a telephone


def test_names_are_escaped(folder: Path, tmp_path: Path, assessment: Assessment) -> None:
    name = "<img src=x onerror=alert(1)>"
    photos = [Photo(photo.path, "animal", name) for photo in assessment.photos]
    meta = json.loads((folder / "models" / "meta.json").read_text())
    named = Assessment(photos, {"animal": [name], "object": ["cup"]}, assessment.probabilities)
    text = write_report(tmp_path / "report", meta, named).read_text()
    assert name not in text
    assert "&lt;img src=x" in text


def test_no_mistakes_and_one_epoch(folder: Path, tmp_path: Path, assessment: Assessment) -> None:
    meta = json.loads((folder / "models" / "meta.json").read_text())
    right = Assessment(assessment.photos, assessment.members, np.array([[1, 0]] * 3, np.float32))
    text = write_report(tmp_path / "report", meta | {"history": meta["history"][:1]}, right).read_text()
    assert "0 of 0" in text


def test_drawn_again(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = shutil.copytree(folder / "models", tmp_path / "models")
    first = (models / "report" / "index.html").read_text()
    shutil.rmtree(models / "report")
    main([f"--data_dir={folder / 'images'}", f"--output_dir={models}", "--workers=0"])
    assert capsys.readouterr().out == f"{models / 'report' / 'index.html'}\n"
    assert (models / "report" / "index.html").read_text() == first


def test_of_other_photographs_or_none(folder: Path, tmp_path: Path) -> None:
    other = write_photos(tmp_path / "other", per_class=5)
    with pytest.raises(DataError, match="does not hold the photographs of that training: another fingerprint"):
        main([f"--data_dir={other}", f"--output_dir={folder / 'models'}", "--workers=0"])
    with pytest.raises(DataError, match="holds no training"):
        main([f"--data_dir={other}", f"--output_dir={tmp_path}", "--workers=0"])
