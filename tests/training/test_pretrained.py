"""Weights to start from, and what is none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import efficientnet_b0

from training import pretrained
from training.cli import DataError
from training.network import ImageClassifier


@pytest.fixture(scope="module")
def torchvisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes them: a head for 1,000 classes."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "efficientnet_b0.pth"
    torch.save(efficientnet_b0().state_dict(), path)
    return path


def test_torchvisions_own_without_its_head(torchvisions: Path) -> None:
    model = ImageClassifier([0, 0, 1])
    head = model.network.classifier[1].weight.clone()
    digest = pretrained.load(model, torchvisions)
    assert digest == hashlib.sha256(torchvisions.read_bytes()).hexdigest()
    loaded = torch.load(torchvisions, weights_only=True)
    assert torch.equal(model.network.features[0][0].weight, loaded["features.0.0.weight"])
    assert torch.equal(model.network.classifier[1].weight, head)


def test_own_weights_with_their_head(tmp_path: Path) -> None:
    first, second = ImageClassifier([0, 1]), ImageClassifier([0, 1])
    torch.save(first.state_dict(), tmp_path / "best_model.pth")
    pretrained.load(second, tmp_path / "best_model.pth")
    assert all(torch.equal(second.state_dict()[name], tensor) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state_dict"),
        ({1: torch.ones(1)}, "holds no state_dict"),
        ({"conv1.weight": torch.ones(1)}, r"is of another network: features.0.0.weight is missing"),
        ({"features.0.0.weight": "text"}, "is of another network"),
        (b"\x80\x04", "is no file of weights"),
        (b"", "is no file of weights"),
    ],
)
def test_what_is_none(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    model = ImageClassifier([0, 1])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DataError, match=message):
        pretrained.load(model, path)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_how_the_weights_were_made_is_known_where_their_training_left_it(tmp_path: Path) -> None:
    file = tmp_path / "best_model.pth"
    assert pretrained.provenance(file) is None
    meta = {"recipe": {"epochs": 3}, "machine": {"workers": 1}, "trained_at": "2026-01-01T00:00:00+00:00", "x": 1}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    meta.pop("x")
    assert pretrained.provenance(file) == {**meta, "earlier": None}
    (tmp_path / "meta.json").write_text("[]")
    assert pretrained.provenance(file) is None
