"""Which training images an epoch sees, in which order. Seed and epoch decide, so that a training can go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from training.captcha_dataset import Photo
from training.recipe import Recipe


def order(photos: Sequence[Photo], recipe: Recipe, epoch: int) -> list[int]:
    """Indices of the images, as many as there are.

    With `even` sampling each comes once. With `weighted` they are drawn with replacement, an image by one over the
    number of its class's, so that every class comes as often as every other.
    """
    random = np.random.default_rng([recipe.seed, epoch])
    if recipe.sampling == "even":
        return list(random.permutation(len(photos)))
    classes = [(photo.group, photo.class_name) for photo in photos]
    counts = Counter(classes)
    weights = np.array([1 / counts[name] for name in classes])
    return list(random.choice(len(photos), len(photos), p=weights / weights.sum()))
