"""The digit model: a checkpoint of the small network becomes its archive, and the released one reads digits."""

from __future__ import annotations

import base64
import json
import tarfile
from pathlib import Path

import pytest
import torch

from export.__main__ import Notes, Sources, export
from export.errors import ExportError
from export.precision import Precision
from handlers.pipeline import Pipeline
from handlers.reply import Answer
from handlers.samples import read_samples
from handlers.tasks.digit_recognition import LABELS
from tests.export.models import load, meta, unpack
from tests.paths import ROOT, SHARED_DATA
from training.captcha_dataset import fingerprint, scan
from training.hold_out import hold_out
from training.network import ImageClassifier

SAMPLES = ROOT / "export" / "specs" / "digit_samples.json"
RELEASED = ROOT / "model_store" / "digit.mar"
DIGITS = SHARED_DATA / "digits.tar.gz"


def ask(model: Pipeline, instance: bytes | dict[str, object]) -> Answer:
    return model.answer([instance])[0]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random weights, with the recipe of the released model."""
    torch.manual_seed(0)
    folder = tmp_path / "models"
    folder.mkdir()
    model = ImageClassifier(range(10), "small_cnn")
    model.train()(torch.randint(0, 256, (32, 3, 28, 28), dtype=torch.uint8))  # statistics, or all answers are alike
    torch.save(model.state_dict(), folder / "best_model.pth")
    members = {label: [label] for label in LABELS}
    changes = {"classes": list(LABELS), "members": members, "preprocessing": {"input_size": 28, "resize": "ink"}}
    recipe = {"architecture": "small_cnn", "preprocessing": "ink", "seed": 0}
    (folder / "meta.json").write_text(json.dumps(meta(**changes, recipe=recipe)))
    return folder / "best_model.pth"


def test_the_recipe_decides_network_and_preprocessing(checkpoint: Path, tmp_path: Path) -> None:
    archive = export("digit", Sources(checkpoint), tmp_path / "store", Notes())
    assert archive.stat().st_size < 1e6
    folder = unpack(archive, tmp_path / "unpacked")
    model = load(folder)
    sample = read_samples(SAMPLES, LABELS)[99]
    asked = ask(model, {"index": 100, "add_noise": False})
    sent = ask(model, sample.data)
    assert isinstance(asked, dict)
    assert isinstance(sent, dict)
    assert (asked["label"], asked["image"]) == (int(sample.label), base64.b64encode(sample.data).decode())
    assert asked["probabilities"] == sent["probabilities"]
    assert sum(asked["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert json.loads((folder / "metadata.json").read_bytes())["samples"]["images"] == 100
    assert "LeCun" in archive.with_suffix(".md").read_text()
    again = export("digit", Sources(archive=archive), tmp_path / "again", Notes())
    assert ask(load(unpack(again, tmp_path / "unpacked_again")), sample.data) == sent


def test_what_is_for_photographs_alone_says_so(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="digit is for digit_recognition; --quantize and --fp16 are for image"):
        export("digit", Sources(checkpoint), tmp_path / "store", Notes(), Precision("float16"))


def test_the_samples_are_ten_of_every_digit() -> None:
    labels = [sample.label for sample in read_samples(SAMPLES, LABELS)]
    assert sorted(labels) == sorted(LABELS * 10)
    assert labels[:10] != sorted(labels[:10])


def test_the_released_model_reads_its_samples_with_noise_and_without(tmp_path: Path) -> None:
    """Its training has seen none of them."""
    model = load(unpack(RELEASED, tmp_path / "model"))
    for add_noise, wrong in ((False, 3), (True, 6)):
        answers = [ask(model, {"index": index, "add_noise": add_noise}) for index in range(1, 101)]
        assert sum(not isinstance(a, dict) or a["digit"] != a["label"] for a in answers) <= wrong
    example = ask(model, (ROOT / "export" / "specs" / "digit.jpg").read_bytes())
    assert isinstance(example, dict)
    assert example["digit"] == 4


@pytest.mark.skipif(not DIGITS.exists(), reason="the digits are not here")
def test_served_accuracy_is_the_one_on_the_card(tmp_path: Path) -> None:
    folder = unpack(RELEASED, tmp_path / "model")
    metadata = json.loads((folder / "metadata.json").read_bytes())
    with tarfile.open(DIGITS) as archive:
        archive.extractall(tmp_path / "digits", filter="data")
    parts = hold_out(scan(tmp_path / "digits"), share=0.1, classes=0, seed=0)
    assert fingerprint(sorted(parts["train"], key=lambda p: p.path)) == metadata["data"]["fingerprint_sha256"]
    model = load(folder)
    answers = [ask(model, photo.path.read_bytes()) for photo in parts["test"]]
    right = sum(
        isinstance(answer, dict) and answer["digit"] == int(photo.group)
        for photo, answer in zip(parts["test"], answers, strict=True)
    )
    assert len(answers) == metadata["evaluation"]["test"]["images"] == 3000
    assert right / 3000 == pytest.approx(metadata["evaluation"]["test"]["accuracy"], abs=0.001)
    assert right / 3000 >= 0.995
