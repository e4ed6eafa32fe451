"""The loss of an image model: over its groups and over its classes, by one formula."""

from __future__ import annotations

import torch

from training.recipe import Recipe


class Loss:
    """As the recipe says: `class_weight` of it over the classes, the rest over the groups."""

    def __init__(self, recipe: Recipe) -> None:
        self._share = recipe.class_weight
        self._gamma = recipe.focal_gamma if recipe.loss == "focal" else 0.0
        self._smoothing = recipe.label_smoothing

    def __call__(
        self,
        log_groups: torch.Tensor,
        groups: torch.Tensor,
        log_classes: torch.Tensor,
        classes: torch.Tensor,
    ) -> torch.Tensor:
        """Log-probabilities and targets of the groups (B, groups) and of the classes (B, classes) -> a scalar."""
        over_groups = focal_loss(log_groups, groups, self._gamma, self._smoothing)
        return over_groups * (1 - self._share) + focal_loss(log_classes, classes, self._gamma, self._smoothing) * (
            self._share
        )


def focal_loss(
    log_probabilities: torch.Tensor, targets: torch.Tensor, gamma: float, smoothing: float = 0.0
) -> torch.Tensor:
    """Mean over the batch of -sum_k q_k (1 - p_k)^gamma log p_k, from log p (B, K) and targets (B, K) that sum to 1.

    q is the target with a share `smoothing` of it spread evenly over all K. So with gamma 0 this is cross-entropy with
    label smoothing, and with smoothing 0 the focal loss; with both, each label's term has the factor of its own
    probability. Targets may be mixed, as CutMix makes them.

    Sources: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (there of two labels; this is its form for
    softmax); Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016 (label smoothing).
    """
    targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
    terms = targets * log_probabilities
    if gamma:
        others = -torch.expm1(log_probabilities)  # 1 - p, exact where p is near 1
        # Below 1 a gamma has no finite slope where p is 1.
        terms = terms * others.clamp(min=torch.finfo(others.dtype).tiny) ** gamma
    return -terms.sum(1).mean()
