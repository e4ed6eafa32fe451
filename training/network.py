"""The image network: an architecture behind its own normalisation, so that it takes pixels as they are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from training import architectures

# The ImageNet statistics that torchvision's own weights were trained with (RGB, of values in [0, 1]).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def class_groups(members: Mapping[str, Sequence[str]]) -> list[int]:
    """The index of its group for every class, from every group's classes; both in the order of `members`."""
    return [index for index, classes in enumerate(members.values()) for _ in classes]


class ImageClassifier(nn.Module):
    """uint8 pixels (B, 3, H, W), RGB -> probabilities of the groups (B, groups).

    The network itself tells the classes apart, which teaches it more per image than the few groups would; a group's
    probability is the sum over its classes. `group_of_class` has the index of the group for every class.
    """

    mean: torch.Tensor
    std: torch.Tensor
    membership: torch.Tensor  # (classes, groups), one 1 in each row

    def __init__(
        self, group_of_class: Sequence[int], architecture: str = "efficientnet_b0", head: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.network = architectures.build(architecture, len(group_of_class), head)
        last = architectures.last_layer(self.network)
        nn.init.normal_(last.weight, std=0.01)  # torchvision's range grows as the classes get fewer
        nn.init.zeros_(last.bias)
        membership = nn.functional.one_hot(torch.tensor(group_of_class)).float()
        self.register_buffer("membership", membership, persistent=False)
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def class_logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        logits: torch.Tensor = self.network((pixels.float() - self.mean) / self.std)
        return logits

    def group_probabilities(self, class_logits: torch.Tensor) -> torch.Tensor:
        """(B, classes) -> (B, groups)."""
        return class_logits.softmax(dim=1) @ self.membership

    def group_log_probabilities(self, class_logits: torch.Tensor) -> torch.Tensor:
        """(B, classes) -> (B, groups); for losses, where a probability would round to 0."""
        inside = class_logits[:, :, None] + self.membership.log()  # (B, classes, groups), -inf outside of the group
        return inside.logsumexp(dim=1) - class_logits.logsumexp(dim=1, keepdim=True)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.group_probabilities(self.class_logits(pixels))
