"""The hyper-parameters of the image model: everything that decides the result, and nothing that does not."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from training import architectures
from training.cli import DataError

Preprocessing = Literal["crop", "ink"]
Augmentation = Literal["none", "crops", "full", "strokes"]
Schedule = Literal["one_cycle", "constant", "exponential"]
Loss = Literal["cross_entropy", "focal"]
Sampling = Literal["even", "weighted"]
Score = Literal["val_accuracy", "val_weighted_f1", "val_macro_f1"]
_AUGMENTATIONS: Mapping[Preprocessing, tuple[Augmentation, ...]] = {"crop": ("crops", "full"), "ink": ("strokes",)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Raises DataError for a value out of its range, in the words of the command line."""

    architecture: str = "efficientnet_b0"
    head: tuple[int, ...] = ()  # widths of further layers before the last one
    bags: int = 1  # networks of an ensemble
    preprocessing: Preprocessing = "crop"  # as handlers/loaders.py names them
    batch_size: int = 32  # over all processes
    learning_rate: float = 0.0003  # the highest
    weight_decay: float = 0.02
    epochs: int = 30
    patience: int = 5  # epochs without a better score
    select_by: Score = "val_accuracy"
    input_size: tuple[int, ...] = (224,)  # side in pixels; several share the epochs evenly, the last one is served
    class_weight: float = 0.5  # of the loss over the classes; the rest is the loss over the groups
    loss: Loss = "cross_entropy"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    augmentation: Augmentation = "full"
    cutmix: float = 0.0
    sampling: Sampling = "even"
    schedule: Schedule = "one_cycle"
    gamma: float = 0.8
    validation_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        architectures.check(self.architecture)
        if min(self.head, default=1) < 1:
            raise DataError("--head takes widths of at least 1")
        for name, low in (("bags", 1), ("batch_size", 2), ("epochs", 1), ("patience", 1)):
            if getattr(self, name) < low:
                raise DataError(f"--{name} must be at least {low}")
        if self.augmentation not in ("none", *_AUGMENTATIONS[self.preprocessing]):
            wanted = ", ".join(("none", *_AUGMENTATIONS[self.preprocessing]))
            raise DataError(f"--preprocessing {self.preprocessing} goes with --augmentation {wanted}")
        least = architectures.least_side(self.architecture)
        if not self.input_size or min(self.input_size) < least:
            raise DataError(f"--input_size must be at least {least}")
        if len(self.input_size) > self.epochs:
            raise DataError(f"--input_size has {len(self.input_size)} sizes for {self.epochs} epochs")
        for name in (field.name for field in fields(self) if field.type == "float"):
            if not math.isfinite(getattr(self, name)):
                raise DataError(f"--{name} must be a number")
        if not 0 < self.validation_share < 1:
            raise DataError("--validation_share must lie between 0 and 1")
        if not self.learning_rate > 0:
            raise DataError("--learning_rate must be positive")
        for name in ("weight_decay", "focal_gamma", "cutmix"):
            if getattr(self, name) < 0:
                raise DataError(f"--{name} must not be negative")
        if not 0 <= self.label_smoothing < 1:
            raise DataError("--label_smoothing must lie between 0 and 1, and not be 1")
        if not 0 < self.gamma <= 1:
            raise DataError("--gamma must lie between 0 and 1, and not be 0")
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
    "architecture": "the network: small_cnn, or resnet50, mobilenet_v3_small, ... as torchvision names its classifiers",
    "head": "widths of linear layers that replace its classifier, before the one as wide as there are classes",
    "bags": "how many such networks, each trained on a bootstrap sample, answer together; 1 is no ensemble",
    "preprocessing": "of an image, in training and in serving: its centre, or its ink in white on black, centred",
    "batch_size": "images per step, over all processes",
    "learning_rate": "the highest: after the warm-up of one_cycle, at the start of the others",
    "weight_decay": "of AdamW",
    "epochs": "passes over the training images",
    "patience": "epochs without a better score before it stops early",
    "select_by": "the score that picks the epoch",
    "input_size": "side of the network's input in pixels; several (48 64 96) share the epochs, the last one is served",
    "class_weight": "share of the classes in the loss, 0 to 1; the rest is the groups'",
    "loss": "focal: what the network is already sure of counts less",
    "focal_gamma": "of the focal loss: how much less",
    "label_smoothing": "share of every label that is spread over all of them",
    "augmentation": "how the training images are varied",
    "cutmix": "a box of each image is replaced by another image's, and the label in proportion: alpha of the Beta "
    "distribution that the box's share is drawn from; 0 for no CutMix",
    "sampling": "weighted: images of rare classes are drawn more often, so that every class comes as often",
    "schedule": "of the learning rate",
    "gamma": "of the exponential schedule: the learning rate's factor from epoch to epoch",
    "validation_share": "of the images of every class, set apart to pick the epoch",
    "seed": "decides split, initial weights, order and augmentation",
}


_KINDS: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "Preprocessing": get_args(Preprocessing),
    "Augmentation": get_args(Augmentation),
    "Schedule": get_args(Schedule),
    "Loss": get_args(Loss),
    "Sampling": get_args(Sampling),
    "Score": get_args(Score),
}


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """One option for every field of Recipe, with its default."""
    for field in fields(Recipe):
        options: dict[str, Any] = {"default": field.default, "help": f"{_HELP[field.name]} (default: %(default)s)"}
        if field.type == "tuple[int, ...]":
            default = list(field.default)  # type: ignore[arg-type]
            words = " ".join(map(str, default)) or "none"
            options |= {
                "type": int,
                "nargs": "*",
                "default": default,
                "help": f"{_HELP[field.name]} (default: {words})",
            }
        elif field.type in _CHOICES:
            options["choices"] = _CHOICES[str(field.type)]
        else:
            options["type"] = _KINDS[str(field.type)]
        parser.add_argument(f"--{field.name}", **options)


def from_record(values: Mapping[str, Any]) -> Recipe:
    """As a meta.json has it; what was no choice when it was written has its default."""
    several = {field.name for field in fields(Recipe) if field.type == "tuple[int, ...]"}
    read: dict[str, Any] = {name: tuple(value) if name in several else value for name, value in values.items()}
    return Recipe(**read)


def from_arguments(args: argparse.Namespace) -> Recipe:
    """Raises DataError."""
    return from_record({field.name: getattr(args, field.name) for field in fields(Recipe)})


def spoken(score: str) -> str:
    """A score's name in words."""
    return score.replace("val_", "validation ").replace("_f1", " F1")


def read_file(path: Path) -> dict[str, Any]:
    """The fields that a recipe's file gives, YAML or JSON as `--tune` writes it; they become the options' defaults.

    Raises DataError.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"--recipe {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"--recipe {path} must have one 'name: value' per line")
    check_fields(content, f"--recipe {path}")
    return content


def check_fields(content: Mapping[str, Any], where: str) -> None:
    """Raises DataError for a name that is no field of a recipe, and for a value of another kind."""
    known = {field.name: str(field.type) for field in fields(Recipe)}
    if unknown := sorted(str(name) for name in content if name not in known):
        raise DataError(f"{where} has unknown names: {', '.join(unknown)}; known are {', '.join(known)}")
    for name, value in content.items():
        if not _fits(value, known[name]):
            allowed = _CHOICES.get(known[name])
            wanted = f"one of {', '.join(allowed)}" if allowed else known[name]
            raise DataError(f"{where}: {name} must be {wanted}, not {value!r}")


def _fits(value: Any, kind: str) -> bool:
    if kind in _CHOICES:
        return value in _CHOICES[kind]
    if kind.startswith("tuple"):
        return isinstance(value, list) and all(type(side) is int for side in value)
    if kind == "str":
        return type(value) is str
    return type(value) is int or (kind == "float" and type(value) is float)
