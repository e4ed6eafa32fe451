"""Which images an epoch sees."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from training.captcha_dataset import Photo
from training.order import order
from training.recipe import Recipe

PHOTOS = [
    Photo(Path(f"{name}/{n}.png"), name, name)
    for name, count in (("a", 900), ("b", 90), ("c", 3))
    for n in range(count)
]


def test_even_sampling_is_a_permutation() -> None:
    seen = order(PHOTOS, Recipe(), 1)
    assert sorted(seen) == list(range(len(PHOTOS)))
    assert seen != order(PHOTOS, Recipe(), 2)
    assert seen == order(PHOTOS, Recipe(), 1)


def test_weighted_sampling_shows_every_class_as_often() -> None:
    recipe = Recipe(sampling="weighted")
    seen = order(PHOTOS, recipe, 1)
    assert len(seen) == len(PHOTOS)
    counts = Counter(PHOTOS[index].group for index in seen)
    assert all(250 < count < 420 for count in counts.values())  # 331 each, on average
    assert seen == order(PHOTOS, recipe, 1)
    assert seen != order(PHOTOS, recipe, 2)
    assert seen != order(PHOTOS, Recipe(sampling="weighted", seed=1), 1)
