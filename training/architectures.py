"""The networks of image models, under the names that recipes give them: one of our own, and torchvision's.

A network's classifier is its last child, and that child's last layer is linear and puts out the logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision
from torch import nn

from training.cli import DataError

SMALL_CNN = "small_cnn"
DROPOUT = 0.2  # before each layer of a head through further widths
_FIXED_SIZE = ("vit_", "maxvit_")  # these take images of one size only
_NO_LINEAR = ("squeezenet",)  # ends in a convolution
# What torchvision's own training scripts would leave out too: further outputs that only a loss of their own uses.
_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "efficientnet_b0": {"stochastic_depth_prob": 0.1},
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


class SmallCNN(nn.Module):
    """Six convolutions on three scales, 100,000 weights: for small pictures of simple things."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (16, 32, 48, 48, 64, 64)
        layers: list[nn.Module] = []
        for index, (before, width) in enumerate(zip((3, *widths), widths, strict=False)):
            if index in (2, 4):
                layers.append(nn.MaxPool2d(2))
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(widths[-1], classes))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        logits: torch.Tensor = self.classifier(self.features(pixels))
        return logits


def names() -> list[str]:
    """Of all networks that `build` makes."""
    found = torchvision.models.list_models(module=torchvision.models)
    return [SMALL_CNN, *(name for name in found if not name.startswith((*_FIXED_SIZE, *_NO_LINEAR)))]


def check(name: str) -> None:
    """Raises DataError where there is no such network."""
    if name not in names():
        raise DataError(
            f"--architecture must be {SMALL_CNN} or one of torchvision's classifiers that take images of any size "
            f"({', '.join(n for n in names() if n != SMALL_CNN)}), not {name!r}"
        )


def least_side(name: str) -> int:
    """Of an input, in pixels. Of a known network."""
    if name == SMALL_CNN:
        return 16
    height, width = torchvision.models.get_model_weights(name).DEFAULT.meta["min_size"]
    return max(32, int(height), int(width))


def build(name: str, classes: int, head: Sequence[int] = ()) -> Any:  # an nn.Module
    """(B, 3, H, W), normalised -> logits (B, classes); of random weights.

    With a `head`, the classifier is made anew from its first linear layer on: linear layers of those widths, ReLU and
    dropout between them.
    """
    own = SmallCNN(classes) if name == SMALL_CNN else None
    network = own or torchvision.models.get_model(name, weights=None, num_classes=classes, **_ARGUMENTS.get(name, {}))
    if head:
        place = head_name(network)
        last = getattr(network, place)
        layers = list(last) if isinstance(last, nn.Sequential) else [last]
        first = next(index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear))
        before = int(layers[first].in_features)  # type: ignore[arg-type]
        through: list[nn.Module] = []
        for width in head:
            through += [nn.Linear(before, width), nn.ReLU(inplace=True), nn.Dropout(DROPOUT)]
            before = width
        setattr(network, place, nn.Sequential(*layers[:first], *through, nn.Linear(before, classes)))
    return network


def head_name(network: nn.Module) -> str:
    """The name of the child that is the classifier."""
    return [name for name, _ in network.named_children()][-1]


def last_layer(network: nn.Module) -> nn.Linear:
    """The one that puts out the logits."""
    layers = [layer for layer in getattr(network, head_name(network)).modules() if isinstance(layer, nn.Linear)]
    return layers[-1]


def describe(name: str, head: Sequence[int] = ()) -> str:
    """For model cards."""
    described = "small_cnn: six convolutions, 100,000 weights" if name == SMALL_CNN else f"torchvision {name}"
    return described + (f", head through {', '.join(map(str, head))}" if head else "")
