"""The released image model on the real photographs that its training set apart; skips where the data is not at hand."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from handlers.errors import RequestError
from tests.export.models import load, unpack
from tests.paths import ROOT
from training.captcha_dataset import fingerprint, scan, split

PHOTOS = ROOT.parent / "shared" / "data" / "photos.tar.gz"
EVERY = 5


@pytest.mark.skipif(not PHOTOS.exists(), reason="the photographs are not here")
def test_served_accuracy_is_the_one_on_the_card(tmp_path: Path) -> None:
    """What the workers run (handlers, ONNX) scores what the training measured in PyTorch: the two have not drifted."""
    folder = unpack(ROOT / "model_store" / "captcha_image.mar", tmp_path / "model")
    metadata = json.loads((folder / "metadata.json").read_bytes())
    with tarfile.open(PHOTOS) as archive:
        archive.extractall(tmp_path / "photos", filter="data")
    photos = scan(tmp_path / "photos")
    if fingerprint(photos) != metadata["data"]["fingerprint_sha256"]:
        pytest.skip("the released model was trained on other photographs")
    recipe = metadata["recipe"]
    _, apart = split(photos, recipe["validation_share"], recipe["seed"])
    chosen = apart[::EVERY]
    answers = load(folder).answer([photo.path.read_bytes() for photo in chosen])
    right = sum(
        not isinstance(answer, RequestError) and answer["label"] == photo.group
        for photo, answer in zip(chosen, answers, strict=True)
    )
    # A fifth of the images: the share differs by chance, with a standard error of about 1.2 %.
    assert right / len(chosen) == pytest.approx(metadata["metrics"]["val_accuracy"], abs=0.05)
