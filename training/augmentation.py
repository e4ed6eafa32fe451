"""How training images are varied, so that the network learns what stays: uint8 (3, H, W) -> uint8 (3, size, size)."""

from __future__ import annotations

from torchvision.transforms import v2

from training.recipe import Augmentation


def augmentation(kind: Augmentation, size: int) -> v2.Transform | None:
    """None where the images stay as they are served. "full" also knows pictures that were scaled and saved again."""
    if kind == "none":
        return None
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
