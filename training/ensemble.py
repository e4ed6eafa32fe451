"""Several networks of one kind that answer together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from training.network import ImageClassifier


class Ensemble(nn.Module):
    """uint8 pixels (B, 3, H, W), RGB -> the mean of the networks' probabilities (B, groups), and each one's own
    (B, networks, groups)."""

    def __init__(self, group_of_class: Sequence[int], architecture: str, head: Sequence[int], count: int) -> None:
        super().__init__()
        self.members = [ImageClassifier(group_of_class, architecture, head) for _ in range(count)]
        self.networks = nn.ModuleList(self.members)  # which a plain list would hide from state_dict

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        each = torch.stack([model(pixels) for model in self.members], dim=1)
        return each.mean(dim=1), each
