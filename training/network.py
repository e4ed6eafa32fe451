"""The image network: EfficientNet-B0 behind its own normalisation, so that it takes pixels as they are decoded.

Source: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import efficientnet_b0

# The ImageNet statistics that torchvision's own weights were trained with (RGB, of values in [0, 1]).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageClassifier(nn.Module):
    """uint8 pixels (B, 3, H, W), RGB -> logits (B, classes)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = efficientnet_b0(num_classes=classes)
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network((pixels.float() - self.mean) / self.std)
        return logits
