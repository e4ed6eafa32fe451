"""The learning rate, step by step."""

from __future__ import annotations

import pytest
import torch

from training.recipe import Recipe
from training.schedules import schedule


def rates(recipe: Recipe, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    moving = schedule(optimizer, recipe, steps)
    found = []
    for _ in range(recipe.epochs * steps):
        found.append(float(moving.get_last_lr()[0]))
        optimizer.step()
        moving.step()
    return found


def test_exponential_falls_from_epoch_to_epoch() -> None:
    recipe = Recipe(schedule="exponential", gamma=0.8, learning_rate=0.0007, epochs=3)
    assert rates(recipe, 4) == pytest.approx([0.0007] * 4 + [0.00056] * 4 + [0.000448] * 4)


def test_the_others() -> None:
    assert rates(Recipe(schedule="constant", epochs=2), 2) == [0.0003] * 4
    cycle = rates(Recipe(epochs=5), 10)
    assert max(cycle) == pytest.approx(0.0003)
    assert cycle.index(max(cycle)) == 9  # after a fifth
    assert rates(Recipe(epochs=5), 1)
