"""The loss against PyTorch's own where that has one, and against the formulas where it has not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.losses import Loss, focal_loss
from training.recipe import Recipe

LABELS = torch.tensor([0, 3, 1, 2, 3])


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.one_hot(labels, 4).float()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_without_gamma_it_is_cross_entropy(logits: torch.Tensor, smoothing: float) -> None:
    found = focal_loss(logits.log_softmax(1), one_hot(LABELS), 0.0, smoothing)
    torch.testing.assert_close(found, nn.functional.cross_entropy(logits, LABELS, label_smoothing=smoothing))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal(logits: torch.Tensor, gamma: float) -> None:
    """Lin et al.: -(1 - p)^gamma log p of the true label."""
    p = logits.softmax(1)[range(5), LABELS]
    expected = -((1 - p) ** gamma * p.log()).mean()
    torch.testing.assert_close(focal_loss(logits.log_softmax(1), one_hot(LABELS), gamma), expected)


def test_mixed_and_smoothed_targets_have_a_term_for_every_label(logits: torch.Tensor) -> None:
    mixed = 0.7 * one_hot(LABELS) + 0.3 * one_hot(LABELS.roll(1))
    p, q = logits.softmax(1), 0.9 * mixed + 0.1 / 4
    expected = -(q * (1 - p) ** 2 * p.log()).sum(1).mean()
    torch.testing.assert_close(focal_loss(logits.log_softmax(1), mixed, 2.0, 0.1), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certainty_has_a_slope(gamma: float) -> None:
    """Right or wrong, where a probability rounds to 1 or 0."""
    logits = torch.tensor([[200.0, 0, 0, 0], [0, 200.0, 0, 0]], requires_grad=True)
    focal_loss(logits.log_softmax(1), one_hot(torch.tensor([0, 3])), gamma, 0.1).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1, 3] < 0


def test_groups_and_classes_share_it(logits: torch.Tensor) -> None:
    groups = torch.log_softmax(logits[:, :2], 1)
    in_group = nn.functional.one_hot(torch.tensor([0, 1, 0, 1, 1]), 2).float()
    recipe = Recipe(loss="focal", focal_gamma=1.0, label_smoothing=0.2, class_weight=0.25)
    found = Loss(recipe)(groups, in_group, logits.log_softmax(1), one_hot(LABELS))
    over_groups = focal_loss(groups, in_group, 1.0, 0.2)
    over_classes = focal_loss(logits.log_softmax(1), one_hot(LABELS), 1.0, 0.2)
    torch.testing.assert_close(found, 0.75 * over_groups + 0.25 * over_classes)
    plain = Loss(Recipe(class_weight=1.0))(groups, in_group, logits.log_softmax(1), one_hot(LABELS))
    torch.testing.assert_close(plain, nn.functional.cross_entropy(logits, LABELS))
