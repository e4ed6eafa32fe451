"""The networks of image models, under the names that recipes give them. The last layer of each is `classifier[-1]`.

Source of EfficientNet-B0: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML
2019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.models import efficientnet_b0

from training.recipe import Architecture


@dataclass(frozen=True, slots=True)
class Kind:
    """`build(classes)` makes (B, 3, H, W), normalised, into logits (B, classes)."""

    build: Callable[[int], Any]  # an nn.Module
    description: str  # on model cards


def _efficientnet_b0(classes: int) -> Any:
    return efficientnet_b0(num_classes=classes, stochastic_depth_prob=0.1)


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


ARCHITECTURES: Mapping[Architecture, Kind] = {
    "efficientnet_b0": Kind(_efficientnet_b0, "torchvision efficientnet_b0"),
    "small_cnn": Kind(SmallCNN, "small_cnn: six convolutions, 100,000 weights"),
}
