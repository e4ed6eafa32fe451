"""Augmented images have the network's size, differ, and repeat with the seed."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from training.augmentation import augmentation
from training.recipe import Augmentation

IMAGE = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_none_leaves_images_as_they_are_served() -> None:
    assert augmentation("none", 32) is None


@pytest.mark.parametrize("kind", ["crops", "full"])
def test_size_type_and_seed(kind: Augmentation) -> None:
    vary = augmentation(kind, 48)
    assert vary is not None
    torch.manual_seed(0)
    first = [vary(IMAGE) for _ in range(20)]
    assert {(image.shape, image.dtype) for image in first} == {(torch.Size((3, 48, 48)), torch.uint8)}
    assert not torch.equal(first[0], first[1])
    torch.manual_seed(0)
    assert all(torch.equal(image, vary(IMAGE)) for image in first)


def test_strokes_vary_what_is_served_and_are_never_mirrored() -> None:
    vary = augmentation("strokes", 28)
    assert vary is not None
    served = torch.zeros(3, 28, 28, dtype=torch.uint8)
    served[:, 4:24, 6:9] = 255  # an L
    served[:, 21:24, 6:20] = 255
    torch.manual_seed(0)
    varied = [vary(served) for _ in range(40)]
    assert {(image.shape, image.dtype) for image in varied} == {(torch.Size((3, 28, 28)), torch.uint8)}
    assert len({image.numpy().tobytes() for image in varied}) == 40
    for image in varied:
        left, right = image[0, :14, :14].float().mean(), image[0, :14, 14:].float().mean()
        assert left > 2 * right
    torch.manual_seed(0)
    assert all(torch.equal(image, vary(served)) for image in varied)


def test_full_knows_scaling_and_recompression() -> None:
    steps = augmentation("full", 48)
    assert isinstance(steps, v2.Compose)
    inner = [step.transforms[0] for step in steps.transforms if isinstance(step, v2.RandomApply)]
    assert [type(step) for step in inner] == [v2.RandomResize, v2.JPEG]
    torch.manual_seed(0)
    sides = {min(inner[0](IMAGE).shape[1:]) for _ in range(50)}
    assert min(sides) < 48 < max(sides)
