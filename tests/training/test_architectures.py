"""Every kind of network that a recipe can name: its shapes, its last layer, its head, and that all of it learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training import architectures
from training.architectures import SmallCNN
from training.cli import DataError
from training.network import ImageClassifier
from training.recipe import Recipe

# Of every way in which torchvision ends a network: fc, classifier with and without hidden layers, head; and those that
# need arguments of their own.
SAMPLE = ("small_cnn", "efficientnet_b0", "mobilenet_v3_small", "resnet18", "densenet121", "convnext_tiny", "swin_t")


def _learns(model: ImageClassifier, side: int) -> None:
    pixels = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert architectures.last_layer(model.network).out_features == 3
    loss = nn.functional.cross_entropy(model.class_logits(pixels), torch.tensor([0, 1, 2, 0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in model.parameters())


@pytest.mark.parametrize("name", SAMPLE)
def test_logits_from_a_last_layer_as_wide_as_there_are_classes(name: str) -> None:
    torch.manual_seed(0)
    _learns(ImageClassifier([0, 0, 1], name), 32)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_those_with_further_outputs_have_one(name: str) -> None:
    torch.manual_seed(0)
    _learns(ImageClassifier([0, 0, 1], name), architectures.least_side(name))


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("resnet18", [(512, 24), (24, 3)]),
        ("mobilenet_v3_small", [(576, 24), (24, 3)]),
        ("efficientnet_b0", [(1280, 24), (24, 3)]),
        ("swin_t", [(768, 24), (24, 3)]),
        ("convnext_tiny", [(768, 24), (24, 3)]),
    ],
)
def test_a_head_takes_the_place_of_the_whole_classifier(name: str, widths: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    model = ImageClassifier([0, 0, 1], name, (24,))
    head = getattr(model.network, architectures.head_name(model.network))
    linear = [(layer.in_features, layer.out_features) for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert linear == widths
    _learns(model, 32)


@pytest.mark.parametrize("name", ["resnet51", "squeezenet1_0", "vit_b_16", "ResNet50", "", "raft_large"])
def test_what_is_no_network_for_this_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(DataError, match=r"^--architecture must be small_cnn or one of .*resnet50"):
        Recipe(architecture=name)


def test_widths_of_a_head_are_positive() -> None:
    with pytest.raises(DataError, match="--head takes widths of at least 1"):
        Recipe(head=(64, 0))


def test_descriptions_name_network_and_head() -> None:
    assert architectures.describe("resnet50", (512,)) == "torchvision resnet50, head through 512"
    assert architectures.describe("efficientnet_b0") == "torchvision efficientnet_b0"


@pytest.mark.parametrize("side", [16, 28, 65])
def test_the_small_one_takes_any_size_and_is_as_small_as_its_description_says(side: int) -> None:
    network = SmallCNN(10).eval()
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 10)
    weights = sum(weight.numel() for weight in network.parameters())
    assert weights == pytest.approx(100_000, rel=0.1)
