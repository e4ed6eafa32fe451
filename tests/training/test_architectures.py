"""Every architecture that a recipe can name: its shapes, its last layer, and that all of it learns."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from training.architectures import ARCHITECTURES, SmallCNN
from training.network import ImageClassifier
from training.recipe import Architecture


def test_every_name_has_its_network() -> None:
    assert set(ARCHITECTURES) == set(get_args(Architecture))


@pytest.mark.parametrize("name", get_args(Architecture))
def test_logits_from_a_last_layer_as_wide_as_there_are_classes(name: Architecture) -> None:
    model = ImageClassifier([0, 0, 1], name)
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert model.network.classifier[-1].out_features == 3
    loss = nn.functional.cross_entropy(model.class_logits(pixels), torch.tensor([0, 1, 2, 0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in model.parameters())


@pytest.mark.parametrize("side", [16, 28, 65])
def test_the_small_one_takes_any_size_and_is_as_small_as_its_description_says(side: int) -> None:
    network = SmallCNN(10).eval()
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 10)
    weights = sum(weight.numel() for weight in network.parameters())
    assert weights == pytest.approx(100_000, rel=0.1)
