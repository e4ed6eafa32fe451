"""Checkpoints and the images that the gate compares on."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export import image_classifier
from export.errors import ExportError
from export.image_classifier import PARITY_IMAGES, crops, load_network, read_meta
from tests.export.models import EXAMPLE, MEMBERS, flat, meta, photographs
from tests.training.photos import write_photos
from training.network import ImageClassifier


def one_line(error: ExportError, path: Path) -> bool:
    return str(path) in str(error) and len(str(error).splitlines()) == 1 and len(str(error)) < 600


def test_the_checkpoint_answers_as_trained(checkpoint: Path) -> None:
    """The probabilities of the groups are those of their classes, summed, for pixels with the channels last."""
    network = load_network(checkpoint, read_meta(checkpoint)["members"])
    pixels = photographs(20)[16:]
    with torch.inference_mode():
        probabilities = network(pixels)
        assert isinstance(network.classifier, ImageClassifier)
        classes = network.classifier.class_logits(pixels.permute(0, 3, 1, 2)).softmax(1)  # (B, 4)
        expected = torch.stack([classes[:, :2].sum(1), classes[:, 2:].sum(1)], dim=1)
    torch.testing.assert_close(probabilities, expected)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
    assert probabilities.std(dim=0).max() > 0.01  # so that a parity of it says something


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "Invalid JSON"),
        ("[]", "file:"),
        ("{}", "classes: Field required"),
        (json.dumps(meta(classes="animal")), "classes: Input should be a valid array"),
        (json.dumps(meta(classes=["animal"], members={"animal": ["cat"]})), "classes: List should have at least 2"),
        (json.dumps(meta(classes=["object", "animal"])), "'classes' and 'members' must name the same groups"),
        (json.dumps(meta(members=MEMBERS | {"plant": ["fern"]})), "'classes' and 'members' must name the same groups"),
        (json.dumps(meta(members=MEMBERS | {"object": []})), "members.object"),
        (json.dumps(meta(preprocessing={"input_size": "32"})), "preprocessing.input_size"),
        (json.dumps(meta(preprocessing={"input_size": 0})), "preprocessing.input_size"),
        (json.dumps(meta(trained_at="yesterday")), "trained_at"),
        (json.dumps(meta(trained_at=1700000000)), "trained_at"),
        (json.dumps(meta(data=None)), "data"),
    ],
)
def test_a_wrong_meta_says_what_is_wrong(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "best_model.pth").write_bytes(b"-")
    (tmp_path / "meta.json").write_text(content)
    with pytest.raises(ExportError) as caught:
        read_meta(tmp_path / "best_model.pth")
    assert complaint in str(caught.value)
    assert one_line(caught.value, tmp_path / "meta.json")


def test_meta_is_handed_over_whole(checkpoint: Path) -> None:
    assert read_meta(checkpoint) == meta()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", pickle.dumps({"a": 1}), pickle.dumps(Path), b"PK\3\4"],
    ids=["empty", "text", "pickle", "code", "zip"],
)
def test_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "best_model.pth"
    path.write_bytes(content)
    with pytest.raises(ExportError) as caught:
        load_network(path, MEMBERS)
    assert one_line(caught.value, path)


@pytest.mark.parametrize("weights", [[1], 3, {}, {1: torch.zeros(2)}, {"network.classifier.1.bias": torch.zeros(9)}])
def test_weights_of_something_else(tmp_path: Path, weights: Any) -> None:
    path = tmp_path / "best_model.pth"
    torch.save(weights, path)
    with pytest.raises(ExportError, match="holds no weights for torchvision efficientnet_b0, with 4 ") as caught:
        load_network(path, MEMBERS)
    assert one_line(caught.value, path)


def test_more_classes_than_the_checkpoint_has(checkpoint: Path) -> None:
    with pytest.raises(ExportError, match="with 5 classes: size mismatch") as caught:
        load_network(checkpoint, MEMBERS | {"plant": ["fern"]})
    assert one_line(caught.value, checkpoint)


def test_damaged_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short or with changed bytes: an ExportError, whatever torch makes of it."""
    monkeypatch.setattr("export.image_classifier.ImageClassifier", lambda *_: torch.nn.Linear(3, 2))
    path = tmp_path / "best_model.pth"
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(3, 2).state_dict(), buffer)
    good = buffer.getvalue()

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(0, len(good)), st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255))))
    def damage(length: int, changes: list[tuple[int, int]]) -> None:
        content = bytearray(good)
        for place, value in changes:
            content[place] = value
        path.write_bytes(content[:length])
        with suppress(ExportError):
            load_network(path, MEMBERS)

    damage()


def test_crops_are_many_different_and_the_same_each_time() -> None:
    first, second = crops(EXAMPLE, 32), crops(EXAMPLE, 32)
    assert len({name for name, _ in first}) == PARITY_IMAGES
    assert len({pixels.tobytes() for _, pixels in first}) == PARITY_IMAGES
    assert all(pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8 for _, pixels in first)
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


def test_photographs_come_evenly_from_a_folder(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "images", per_class=25)
    loaded = image_classifier.photographs(folder, 16)
    assert len({name for name, _ in loaded}) == PARITY_IMAGES
    assert {str(Path(name).parent.relative_to(folder)) for name, _ in loaded} == {
        f"{group}/{kind}" for group, kinds in MEMBERS.items() for kind in kinds
    }
    assert all(pixels.shape == (16, 16, 3) for _, pixels in loaded)


def test_a_photograph_that_does_not_decode_is_named(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "images", per_class=2)
    broken = folder / "animal" / "cat" / "cat_1.png"
    broken.write_bytes(broken.read_bytes()[:40] + flat(1, 2, 3).tobytes())
    with pytest.raises(ExportError, match=r"cat_1\.png"):
        image_classifier.photographs(folder, 16)


def test_no_photographs(tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        image_classifier.photographs(tmp_path / "nowhere", 16)


def test_missing_files(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ExportError, match=r"best_model\.pth does not exist"):
        read_meta(tmp_path / "best_model.pth")
    shutil.copy(checkpoint, tmp_path / "best_model.pth")
    with pytest.raises(ExportError, match=r"meta\.json is missing"):
        read_meta(tmp_path / "best_model.pth")
