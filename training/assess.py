"""What a trained network says about photographs it did not learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from tqdm import tqdm

from training.captcha_dataset import CaptchaDataset, Photo
from training.fit import Machine
from training.network import ImageClassifier
from training.recipe import Recipe


@dataclass(frozen=True)
class Assessment:
    """Photographs and what was predicted, in the same order; `probabilities` (images, groups) sum to 1."""

    photos: Sequence[Photo]
    members: Mapping[str, Sequence[str]]
    probabilities: NDArray[np.float32]

    @cached_property
    def groups(self) -> list[str]:
        return list(self.members)

    @cached_property
    def truth(self) -> NDArray[np.int64]:
        """Index of the group of each image."""
        return np.array([self.groups.index(photo.group) for photo in self.photos])

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Index of the likeliest group of each image."""
        return np.asarray(self.probabilities.argmax(1))

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """Of the predicted group."""
        return np.asarray(self.probabilities.max(1))

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.predicted == self.truth)

    def accuracy_of_classes(self) -> dict[str, float]:
        """Share of each class's images that got their group, worst first."""
        names = np.array([f"{photo.group}/{photo.class_name}" for photo in self.photos])
        shares = {str(name): float(self.right[names == name].mean()) for name in np.unique(names)}
        return dict(sorted(shares.items(), key=lambda item: item[1]))

    def mistakes(self) -> NDArray[np.int64]:
        """Indices of the wrong predictions, the most confident first."""
        wrong = np.flatnonzero(~self.right)
        return np.asarray(wrong[np.argsort(-self.confidence[wrong], kind="stable")])


@torch.inference_mode()
def assess(
    model: ImageClassifier,
    photos: Sequence[Photo],
    members: Mapping[str, Sequence[str]],
    recipe: Recipe,
    machine: Machine,
) -> Assessment:
    """Run `photos` through `model` as they are served. Raises DataError."""
    model = model.to(machine.device).eval()
    loader: DataLoader[tuple[torch.Tensor, int]] = DataLoader(
        CaptchaDataset(photos, members, recipe.input_size[-1], preprocessing=recipe.preprocessing),
        64,
        num_workers=machine.workers,
    )
    bar = tqdm(loader, desc="assessing", unit="batch", leave=False, disable=None)
    found = [model(pixels.to(machine.device)).cpu().numpy() for pixels, _ in bar]
    return Assessment(photos, members, np.concatenate(found))
