"""Train EfficientNet-B0 to tell the groups of a two-level photo folder apart, taught by their classes.

    python training/train_efficientnet.py --data_dir ./images --output_dir ./models

writes `best_model.pth` (the weights of the epoch with the best validation accuracy) and `meta.json` (classes,
preprocessing, metrics, seed, library versions, fingerprint of the data) after every epoch that improves.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from training.captcha_dataset import CaptchaDataset, classes_of, fingerprint, scan, split
from training.cli import DataError, run_script
from training.network import MEAN, STD, ImageClassifier

Loader = DataLoader[Any]  # yields pixels (B, 3, H, W) and labels (B,)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The hyper-parameters: everything that decides the result, and nothing that does not."""

    batch_size: int
    learning_rate: float
    epochs: int
    patience: int
    input_size: int
    validation_share: float
    seed: int


def augmentation(size: int) -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.4, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05),
        ]
    )


def train_epoch(
    model: ImageClassifier,
    class_logits: Callable[[torch.Tensor], torch.Tensor],
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
    title: str,
) -> float:
    """One pass over the training data; the mean loss."""
    model.train()
    total = torch.zeros((), device=device)
    for pixels, labels in tqdm(loader, desc=title, unit="batch", leave=False, disable=None):
        pixels = pixels.to(device, non_blocking=True).to(memory_format=torch.channels_last)  # (B, 3, H, W)
        loss = nn.functional.cross_entropy(class_logits(pixels), labels.to(device), label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        total += loss.detach()
    return float(total) / len(loader)


@torch.inference_mode()
def evaluate(model: ImageClassifier, loader: Loader, device: torch.device) -> dict[str, float]:
    """Mean loss over the classes, and the share of images whose group and whose class is right (0 to 1)."""
    model.eval()
    loss = groups_right = classes_right = count = 0.0
    for pixels, labels in loader:
        logits = model.class_logits(pixels.to(device).to(memory_format=torch.channels_last))
        labels = labels.to(device)
        groups = model.membership[labels].argmax(1)
        loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        groups_right += float((model.group_probabilities(logits).argmax(1) == groups).sum())
        classes_right += float((logits.argmax(1) == labels).sum())
        count += len(labels)
    return {
        "val_accuracy": groups_right / count,
        "val_class_accuracy": classes_right / count,
        "val_loss": loss / count,
    }


def train(data_dir: Path, output_dir: Path, recipe: Recipe, workers: int, compile_network: bool) -> None:
    random.seed(recipe.seed)
    np.random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    photos = scan(data_dir)
    members = classes_of(photos)
    groups = list(members)
    train_photos, validation_photos = split(photos, recipe.validation_share, recipe.seed)
    if len(train_photos) < recipe.batch_size:
        raise DataError(f"{len(train_photos)} training images do not fill one batch of {recipe.batch_size}")
    print(f"{len(train_photos):,} images to train on, {len(validation_photos):,} to validate, groups: {groups}")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options: dict[str, Any] = {
        "batch_size": recipe.batch_size,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": device.type == "cuda",
    }
    training_set = CaptchaDataset(train_photos, members, recipe.input_size, augmentation(recipe.input_size))
    train_loader: Loader = DataLoader(training_set, shuffle=True, drop_last=True, **options)
    validation_loader: Loader = DataLoader(CaptchaDataset(validation_photos, members, recipe.input_size), **options)

    model = ImageClassifier([groups.index(group) for group, classes in members.items() for _ in classes])
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    class_logits = torch.compile(model.class_logits) if compile_network else model.class_logits
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.02)
    steps = recipe.epochs * len(train_loader)
    warm_up = 0.2 if steps != 5 else 0.3  # a fifth of 5 steps is a warm-up of no length: torch divides by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=steps, pct_start=warm_up
    )

    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--output_dir {output_dir} cannot be made: {error.strerror}") from None
    meta: dict[str, Any] = {
        "architecture": "torchvision efficientnet_b0",
        "classes": groups,
        "members": members,
        "preprocessing": {
            "input_size": recipe.input_size,
            "resize": "shorter side, then centre crop",
            "mean": MEAN,
            "std": STD,
        },
        "recipe": asdict(recipe),
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "opencv-python-headless")},
        "data": {
            "images": len(photos),
            "images_per_group": dict(Counter(photo.group for photo in photos)),
            "training_images": len(train_photos),
            "validation_images": len(validation_photos),
            "fingerprint_sha256": fingerprint(photos),
        },
    }
    history: list[dict[str, float]] = []
    best = -1.0  # so that the first epoch is kept whatever it reached
    waited = 0
    for epoch in range(1, recipe.epochs + 1):
        started = time.monotonic()
        train_loss = train_epoch(
            model, class_logits, train_loader, optimizer, schedule, device, f"epoch {epoch}/{recipe.epochs}"
        )
        scores = evaluate(model, validation_loader, device)
        accuracy = scores["val_accuracy"]
        history.append({"epoch": epoch, "train_loss": train_loss, **scores})
        print(
            f"epoch {epoch}/{recipe.epochs}: train loss {train_loss:.4f}, validation loss {scores['val_loss']:.4f}, "
            f"validation accuracy {accuracy:.4f} ({time.monotonic() - started:.0f} s)",
            flush=True,
        )
        if accuracy > best:
            best, waited = accuracy, 0
            meta["trained_at"] = datetime.now(UTC).isoformat(timespec="seconds")
            meta["metrics"] = {**scores, "epoch": epoch}
            meta["history"] = history
            _save(model, meta, output_dir)
        else:
            waited += 1
            if waited >= recipe.patience:
                print(f"no better validation accuracy for {waited} epochs: stopping early")
                break
    print(f"best validation accuracy {best:.4f}: {output_dir / 'best_model.pth'}")


def _save(model: nn.Module, meta: dict[str, Any], output_dir: Path) -> None:
    """Weights first, then what describes them; each replaced at once, so that an interruption leaves no half file."""
    weights, description = output_dir / "best_model.pth", output_dir / "meta.json"
    torch.save(model.state_dict(), weights.with_suffix(".part"))
    weights.with_suffix(".part").replace(weights)
    description.with_suffix(".part").write_text(json.dumps(meta, indent=2) + "\n")
    description.with_suffix(".part").replace(description)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train EfficientNet-B0 on a two-level photo folder.")
    parser.add_argument("--data_dir", type=Path, default=Path("images"), help="<group>/<class>/*.jpg|png")
    parser.add_argument("--output_dir", type=Path, default=Path("models"))
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=0.0003, help="the highest, reached after a warm-up")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--patience", type=int, default=5, help="epochs without a better validation accuracy")
    parser.add_argument("--input_size", type=int, default=224, help="side of the network's input, in pixels")
    parser.add_argument("--validation_share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes that decode images")
    parser.add_argument("--compile", action="store_true", help="torch.compile: slow start, then faster epochs")
    args = parser.parse_args(argv)
    for name, low in (("batch_size", 2), ("epochs", 1), ("patience", 1), ("input_size", 32), ("workers", 0)):
        if getattr(args, name) < low:
            raise DataError(f"--{name} must be at least {low}")
    if not 0 < args.validation_share < 1:
        raise DataError("--validation_share must lie between 0 and 1")
    if not args.learning_rate > 0:
        raise DataError("--learning_rate must be positive")
    if not 0 <= args.seed < 2**32:
        raise DataError("--seed must lie between 0 and 4294967295")
    recipe = Recipe(
        **{name: getattr(args, name) for name in Recipe.__slots__},
    )
    train(args.data_dir, args.output_dir, recipe, args.workers, args.compile)


if __name__ == "__main__":
    run_script(main)
