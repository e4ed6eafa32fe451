"""How the learning rate moves from step to step."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, LRScheduler, OneCycleLR

from training.recipe import Recipe


def schedule(optimizer: Optimizer, recipe: Recipe, steps: int) -> LRScheduler:
    """To be stepped after every batch, of which an epoch has `steps`."""
    if recipe.schedule == "constant":
        return ConstantLR(optimizer, factor=1.0)
    if recipe.schedule == "exponential":  # ExponentialLR, but of steps
        return LambdaLR(optimizer, lambda step: recipe.gamma ** (step // steps))
    total = recipe.epochs * steps
    warm_up = 0.2 if total != 5 else 0.3  # a fifth of 5 steps is a warm-up of no length: torch divides by zero
    return OneCycleLR(optimizer, recipe.learning_rate, total_steps=total, pct_start=warm_up)
