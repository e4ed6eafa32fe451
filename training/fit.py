"""One training, epoch by epoch, with what it needs to go on after an interruption. Knows no files and no reports."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from training import parallel
from training.augmentation import augmentation
from training.captcha_dataset import CaptchaDataset, Photo
from training.cli import DataError
from training.losses import Loss
from training.network import ImageClassifier, class_groups
from training.order import order
from training.recipe import Recipe
from training.schedules import schedule
from training.small_maps import use_small_maps
from training.tally import Tally

Loader = DataLoader[Any]  # yields pixels (B, 3, H, W) and labels (B,)
Scores = dict[str, float]


class DivergedError(DataError):
    """The recipe does not work: the loss grew out of all bounds."""


@dataclass(frozen=True, slots=True)
class Machine:
    """How the training runs here: with another machine the same recipe ends nearby, not at the same bits."""

    device: torch.device
    workers: int = 2  # processes that decode images
    compile: bool = False
    bfloat16: bool = False  # on a CPU; a GPU decides for itself


class Training:
    """The state of a training. `epoch()` takes it one further, `history` has the scores of every epoch so far.

    The same recipe on the same photographs and machine gives the same weights, bit for bit on a CPU, also when it is
    interrupted between two epochs and goes on from `state()`.
    """

    def __init__(
        self,
        recipe: Recipe,
        members: Mapping[str, Sequence[str]],
        train_photos: Sequence[Photo],
        validation_photos: Sequence[Photo],
        machine: Machine,
        bag: int = 0,
    ) -> None:
        """`bag` is the number of an ensemble's member: each has random numbers of its own. Raises DataError."""
        processes = parallel.size()
        if recipe.batch_size % processes or recipe.batch_size < 2 * processes:
            raise DataError(f"--batch_size {recipe.batch_size} cannot be shared evenly by {processes} processes")
        self._steps = len(train_photos) // recipe.batch_size  # per epoch
        if not self._steps:
            raise DataError(f"{len(train_photos)} training images do not fill one batch of {recipe.batch_size}")
        self.recipe, self.machine, self.members = recipe, machine, members
        self.train_photos, self.validation_photos = train_photos, validation_photos
        self._bag = bag
        self._seed_everything(0)
        of_class = class_groups(members)
        model = ImageClassifier(of_class, recipe.architecture, recipe.head)
        self.model: ImageClassifier = model.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._class_logits = self.model.class_logits
        if machine.compile:
            if machine.device.type == "cpu":
                use_small_maps(self.model)
            # One graph for each input size: shapes known in advance make faster kernels.
            self._class_logits = torch.compile(self.model.class_logits, dynamic=False)
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self._schedule = schedule(self._optimizer, recipe, self._steps)
        self._loss = Loss(recipe)
        classes = len(of_class)
        self._cutmix = v2.CutMix(alpha=recipe.cutmix, num_classes=classes) if recipe.cutmix else None
        half = machine.device.type == "cuda" and not torch.cuda.is_bf16_supported()
        self._scaler = torch.amp.GradScaler(machine.device.type, enabled=half)
        self._autocast_type = torch.float16 if half else torch.bfloat16
        self.history: list[Scores] = []
        self.pretrained: str | None = None  # SHA-256 of the file that the weights started from

    @property
    def best(self) -> Scores:
        """The scores of the first epoch with the highest of those that the recipe selects by."""
        return max(self.history, key=lambda scores: scores[self.recipe.select_by])

    @property
    def finished(self) -> bool:
        """All epochs done, or none better for `patience` epochs."""
        done = len(self.history)
        return done >= self.recipe.epochs or (done > 0 and done - self.best["epoch"] >= self.recipe.patience)

    def epoch(self) -> Scores:
        """One pass over the training images and one over the validation images; their scores."""
        number = len(self.history) + 1
        size = self.recipe.size_at(number)
        self._seed_everything(number)
        learning_rate = float(self._schedule.get_last_lr()[0])
        trained = self._pass(self._training_batches(number, size), f"epoch {number}/{self.recipe.epochs}", learn=True)
        parallel.average([b for b in self.model.buffers() if b.is_floating_point()])  # each saw other images
        validated = self._pass(self._validation_batches(), "validation", learn=False)
        scores: Scores = {
            "epoch": number,
            "input_size": size,
            "learning_rate": learning_rate,
            "train_loss": trained["loss"],
            "train_accuracy": trained["accuracy"],
            **{f"val_{name}": score for name, score in validated.items()},
        }
        self.history.append(scores)
        return scores

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "history": self.history,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self.history = list(state["history"])

    def _pass(self, batches: Loader, title: str, learn: bool) -> Scores:
        """The scores of a pass, over all processes."""
        self.model.train(learn)
        device = self.machine.device
        tally = Tally(len(self.members), device)
        bar = tqdm(batches, desc=title, unit="batch", leave=False, disable=None if parallel.rank() == 0 else True)
        class_logits = self._class_logits if learn else self.model.class_logits
        with torch.enable_grad() if learn else torch.inference_mode():
            for pixels, labels in bar:
                pixels = pixels.to(device, non_blocking=True).to(memory_format=torch.channels_last)  # (B, 3, H, W)
                labels = labels.to(device, non_blocking=True)  # (B,)
                classes = nn.functional.one_hot(labels, len(self.model.membership)).float()  # (B, classes)
                if learn and self._cutmix:
                    pixels, classes = self._cutmix(pixels, labels)
                groups = classes @ self.model.membership  # (B, groups)
                with self._autocast():
                    logits = class_logits(pixels).float()  # (B, classes)
                log_groups, log_classes = self.model.group_log_probabilities(logits), logits.log_softmax(1)
                loss = self._loss(log_groups, groups, log_classes, classes)
                if learn:
                    self._step(loss)
                tally.add(loss, log_groups, groups, log_classes, classes)
        scores = tally.scores()
        if not np.isfinite(scores["loss"]):
            raise DivergedError(f"{title}: the loss is no longer a number; try a lower --learning_rate")
        return scores

    def _step(self, loss: torch.Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        parallel.average([p.grad for p in self.model.parameters() if p.grad is not None])
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = self.machine.device.type
        if kind == "cuda" or self.machine.bfloat16:
            return torch.autocast(kind, dtype=self._autocast_type)
        return nullcontext()  # without units of its own, lower precision is slower on a CPU

    def _training_batches(self, epoch: int, size: int) -> Loader:
        """This process's share of an order that the epoch decides; what does not fill a batch is left out."""
        seen = order(self.train_photos, self.recipe, epoch)[: self._steps * self.recipe.batch_size]
        photos = [self.train_photos[index] for index in seen[parallel.rank() :: parallel.size()]]
        varied = augmentation(self.recipe.augmentation, size)
        dataset = CaptchaDataset(photos, self.members, size, varied, self.recipe.preprocessing)
        return self._batches(dataset, self.recipe.batch_size // parallel.size())

    def _validation_batches(self) -> Loader:
        """This process's share; of the size that is served, whatever size is trained on."""
        photos = self.validation_photos[parallel.rank() :: parallel.size()]
        recipe = self.recipe
        dataset = CaptchaDataset(photos, self.members, recipe.input_size[-1], preprocessing=recipe.preprocessing)
        return self._batches(dataset, 64)

    def _batches(self, dataset: CaptchaDataset, batch_size: int) -> Loader:
        # The workers' random numbers start from torch's own, which every epoch seeds anew.
        pin = self.machine.device.type == "cuda"
        return DataLoader(dataset, batch_size, num_workers=self.machine.workers, pin_memory=pin)

    def _seed_everything(self, epoch: int) -> None:
        """Each epoch starts from a state of its own, so that a training can go on where it was interrupted."""
        entropy = [self.recipe.seed, epoch, parallel.rank() if epoch else 0, *([self._bag] if self._bag else [])]
        mixed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(mixed)
        np.random.seed(mixed)
        torch.manual_seed(mixed)
