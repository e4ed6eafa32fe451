"""How training images are varied, so that the network learns what stays: uint8 (3, H, W) -> uint8 (3, size, size)."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.transforms import v2

from training.recipe import Augmentation


def augmentation(kind: Augmentation, size: int) -> v2.Transform | None:
    """None where the images stay as they are served. "full" also knows pictures that were scaled and saved again;
    "strokes" is for handwriting as it is served, (3, size, size): that is not mirrored."""
    if kind == "none":
        return None
    if kind == "strokes":
        return v2.Compose(_strokes())
    crops: list[v2.Transform] = [
        v2.RandomResizedCrop(size, scale=(0.4, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if kind == "crops":
        return v2.Compose(crops)
    saved_again: list[v2.Transform] = [
        v2.RandomApply([v2.RandomResize(size // 2, 2 * size, antialias=True)], p=0.25),
        v2.RandomApply([v2.JPEG((30, 95))], p=0.25),
    ]
    colours = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3)
    return v2.Compose([*saved_again, *crops, colours])


def _strokes() -> list[v2.Transform]:
    """Other hands, other pens, and noise.

    Source of the elastic deformation: Simard, Steinkraus and Platt, Best Practices for Convolutional Neural Networks
    Applied to Visual Document Analysis, ICDAR 2003.
    """
    pens = [v2.GaussianBlur(3), v2.Lambda(_thicker), v2.Lambda(_thinner)]
    to_unit, to_bytes = v2.ToDtype(torch.float32, scale=True), v2.ToDtype(torch.uint8, scale=True)
    noise = v2.Compose([to_unit, v2.GaussianNoise(0, 0.1), to_bytes])
    return [
        v2.RandomApply([v2.ElasticTransform(alpha=34.0, sigma=4.0)], p=0.3),
        v2.RandomAffine(12, (0.07, 0.07), (0.85, 1.15), (-12, 12, -6, 6), interpolation=v2.InterpolationMode.BILINEAR),
        v2.RandomApply([v2.RandomChoice(pens)], p=0.25),
        v2.RandomApply([noise], p=0.25),
    ]


def _thicker(pixels: torch.Tensor) -> torch.Tensor:
    """Half-way to the lightest of the pixels around."""
    lightest = nn.functional.max_pool2d(pixels.float(), 3, stride=1, padding=1)
    return ((pixels + lightest) / 2).to(torch.uint8)


def _thinner(pixels: torch.Tensor) -> torch.Tensor:
    """Half-way to the darkest of the pixels around."""
    darkest = -nn.functional.max_pool2d(-pixels.float(), 3, stride=1, padding=1)
    return ((pixels + darkest) / 2).to(torch.uint8)
