"""`python -m export.untrained FOLDER`: a checkpoint of EfficientNet-B0 with random weights, to measure its speed.

The statistics of its normalisation layers are those of random images, smooth and noisy ones: with the initial ones its
activations would vanish, and every image would get the same answer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from training.architectures import last_layer
from training.checkpoint import BEST, META
from training.network import ImageClassifier, class_groups

MEMBERS = {"animal": ["cat", "dog"], "object": ["cup", "key"]}


def untrained(members: Mapping[str, Sequence[str]], images: torch.Tensor, seed: int = 0) -> ImageClassifier:
    """An EfficientNet-B0 of random weights whose answers do depend on its input; the statistics of its batch
    normalisation are those of `images`, (N, 3, H, W), 0 to 255."""
    torch.manual_seed(seed)
    model = ImageClassifier(class_groups(members))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the statistics become those of the one batch below
            layer.reset_running_stats()
    with torch.no_grad():
        for weight in last_layer(model.network).parameters():
            weight.normal_(std=0.05)
        model.train()(images)
    return model


def write_untrained(folder: Path, size: int, seed: int = 0) -> Path:
    """The checkpoint for images of `size` by `size` pixels, and its meta.json, as a training leaves them."""
    random = torch.Generator().manual_seed(seed)
    smooth = nn.functional.interpolate(torch.rand(8, 3, 8, 8, generator=random), size=(size, size), mode="bilinear")
    noisy = torch.rand(8, 3, size, size, generator=random)
    model = untrained(MEMBERS, torch.cat([smooth, noisy]) * 255, seed)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / BEST)
    meta = {
        "architecture": "torchvision efficientnet_b0",
        "classes": list(MEMBERS),
        "members": MEMBERS,
        "preprocessing": {"input_size": size, "resize": "shorter side, then centre crop"},
        "recipe": {"seed": seed},
        "data": dict.fromkeys(("images", "training_images", "validation_images"), 0)
        | {"images_per_group": dict.fromkeys(MEMBERS, 0), "fingerprint_sha256": "", "note": "None: random weights."},
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "metrics": {"val_accuracy": 0.0, "epoch": 0},
    }
    (folder / META).write_text(json.dumps(meta, indent=2))
    return folder / BEST


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m export.untrained", description="EfficientNet-B0, untrained.")
    parser.add_argument("folder", type=Path, help="where the checkpoint is written")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side (default: %(default)s)")
    args = parser.parse_args(argv)
    if not 32 <= args.size <= 1024:
        parser.error("--size takes 32 to 1024")
    print(write_untrained(args.folder, args.size))


if __name__ == "__main__":
    main()
