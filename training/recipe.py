"""The hyper-parameters of the image model: everything that decides the result, and nothing that does not."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from training.cli import DataError

Augmentation = Literal["none", "crops", "full"]
Schedule = Literal["one_cycle", "constant"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Raises DataError for a value out of its range, in the words of the command line."""

    batch_size: int = 32  # over all processes
    learning_rate: float = 0.0003  # the highest, reached after a warm-up
    weight_decay: float = 0.02
    epochs: int = 30
    patience: int = 5  # epochs without a better validation accuracy
    input_size: tuple[int, ...] = (224,)  # side in pixels; several share the epochs evenly, the last one is served
    class_weight: float = 0.5  # of the loss over the classes; the rest is the loss over the groups
    augmentation: Augmentation = "full"
    schedule: Schedule = "one_cycle"
    validation_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("batch_size", 2), ("epochs", 1), ("patience", 1)):
            if getattr(self, name) < low:
                raise DataError(f"--{name} must be at least {low}")
        if not self.input_size or min(self.input_size) < 32:
            raise DataError("--input_size must be at least 32")
        if len(self.input_size) > self.epochs:
            raise DataError(f"--input_size has {len(self.input_size)} sizes for {self.epochs} epochs")
        for name in ("validation_share", "learning_rate", "weight_decay", "class_weight"):
            if not math.isfinite(getattr(self, name)):
                raise DataError(f"--{name} must be a number")
        if not 0 < self.validation_share < 1:
            raise DataError("--validation_share must lie between 0 and 1")
        if not self.learning_rate > 0:
            raise DataError("--learning_rate must be positive")
        if self.weight_decay < 0:
            raise DataError("--weight_decay must not be negative")
        if not 0 <= self.class_weight <= 1:
            raise DataError("--class_weight must lie between 0 and 1")
        if not 0 <= self.seed < 2**32:
            raise DataError("--seed must lie between 0 and 4294967295")

    def size_at(self, epoch: int) -> int:
        """The input's side in an epoch, which count from 1.

        Source of the growing sizes: Tan and Le, EfficientNetV2: Smaller Models and Faster Training, ICML 2021.
        """
        return self.input_size[(epoch - 1) * len(self.input_size) // self.epochs]


_HELP = {
    "batch_size": "images per step, over all processes",
    "learning_rate": "the highest, reached after a warm-up",
    "weight_decay": "of AdamW",
    "epochs": "passes over the training images",
    "patience": "epochs without a better validation accuracy before it stops early",
    "input_size": "side of the network's input in pixels; several (48 64 96) share the epochs, the last one is served",
    "class_weight": "share of the classes in the loss, 0 to 1; the rest is the groups'",
    "augmentation": "how the training images are varied",
    "schedule": "of the learning rate",
    "validation_share": "of the images of every class, set apart to pick the epoch",
    "seed": "decides split, initial weights, order and augmentation",
}


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """One option for every field of Recipe, with its default."""
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float}
    choices = {"Augmentation": get_args(Augmentation), "Schedule": get_args(Schedule)}
    for field in fields(Recipe):
        options: dict[str, Any] = {"default": field.default, "help": f"{_HELP[field.name]} (default: %(default)s)"}
        if field.name == "input_size":
            options |= {"type": int, "nargs": "+", "default": [224], "help": f"{_HELP[field.name]} (default: 224)"}
        elif field.type in choices:
            options["choices"] = choices[str(field.type)]
        else:
            options["type"] = kinds[str(field.type)]
        parser.add_argument(f"--{field.name}", **options)


def from_arguments(args: argparse.Namespace) -> Recipe:
    """Raises DataError."""
    values = {field.name: getattr(args, field.name) for field in fields(Recipe)}
    return Recipe(**values | {"input_size": tuple(values["input_size"])})
