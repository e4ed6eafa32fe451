"""The released image model on the real photographs it never saw; skips where the data is not at hand."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from handlers.errors import RequestError
from tests.export.models import load, unpack
from tests.paths import ROOT, SHARED_DATA
from training.captcha_dataset import fingerprint, scan
from training.hold_out import hold_out

PHOTOS = SHARED_DATA / "photos.tar.gz"
CLASSES = 5  # of each group that were held out


@pytest.mark.skipif(not PHOTOS.exists(), reason="the photographs are not here")
def test_served_accuracy_is_the_one_on_the_card(tmp_path: Path) -> None:
    """On the card's own photographs: neither the handlers nor the archive have drifted since it was measured."""
    folder = unpack(ROOT / "model_store" / "captcha_image.mar", tmp_path / "model")
    metadata = json.loads((folder / "metadata.json").read_bytes())
    with tarfile.open(PHOTOS) as archive:
        archive.extractall(tmp_path / "photos", filter="data")
    parts = hold_out(scan(tmp_path / "photos"), share=0.1, classes=CLASSES, seed=0)
    if fingerprint(sorted(parts["train"], key=lambda photo: photo.path)) != metadata["data"]["fingerprint_sha256"]:
        pytest.skip("the released model was trained on other photographs")
    model = load(folder)
    answers = [model.answer([photo.path.read_bytes()])[0] for photo in parts["test"]]
    right = sum(
        not isinstance(answer, RequestError) and answer["label"] == photo.group
        for photo, answer in zip(parts["test"], answers, strict=True)
    )
    measured = metadata["evaluation"]["test"]
    assert len(answers) == measured["images"]
    # Another kind of CPU may round a few images to the other side.
    assert right / len(answers) == pytest.approx(measured["accuracy"], abs=0.002)
