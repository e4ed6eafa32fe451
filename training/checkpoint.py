"""The files of a training: what it goes on from after an interruption, and the best model with its description."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training import architectures, parallel
from training.captcha_dataset import Photo, fingerprint
from training.cli import DataError
from training.fit import Scores, Training
from training.network import MEAN, STD
from training.recipe import Preprocessing, Recipe

RESIZE: Mapping[Preprocessing, str] = {
    "crop": "shorter side, then centre crop",
    "ink": "strokes in white on black, scaled and centred",
}
LAST, BEST, META = "last.pth", "best_model.pth", "meta.json"

# Of options that there were not yet when a folder was written.
_DEFAULTS: Mapping[str, Any] = {f"--{name}": value for name, value in json.loads(json.dumps(asdict(Recipe()))).items()}


class Checkpoint:
    """The output folder of one training. Only the first of several processes writes.

    Each file is replaced at once, so that an interruption leaves no half of one; `last.pth` comes last, so that a
    resumed training repeats what was not finished.
    """

    def __init__(
        self,
        folder: Path,
        training: Training,
        photos: Sequence[Photo],
        fold: tuple[int, int] | None = None,
        bag: tuple[int, int] | None = None,
    ) -> None:
        self.folder = folder
        self._training = training
        self._since = time.monotonic()
        members = training.members
        size = training.recipe.input_size[-1]
        self.meta: dict[str, Any] = {
            "architecture": architectures.describe(training.recipe.architecture, training.recipe.head),
            "classes": list(members),
            "members": {group: list(classes) for group, classes in members.items()},
            "preprocessing": {
                "input_size": size,
                "resize": RESIZE[training.recipe.preprocessing],
                "mean": MEAN,
                "std": STD,
            },
            "recipe": asdict(training.recipe),
            "fold": fold,
            "bag": bag,
            "pretrained": training.pretrained,
            "machine": {
                "device": training.machine.device.type,
                "processes": parallel.size(),
                "workers": training.machine.workers,
                "compile": training.machine.compile,
                "bfloat16": training.machine.bfloat16,
            },
            "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "opencv-python-headless")},
            "data": {
                "images": len(photos),
                "images_per_group": dict(Counter(photo.group for photo in photos)),
                "training_images": len(training.train_photos),
                "validation_images": len(training.validation_photos),
                "fingerprint_sha256": fingerprint(photos),
            },
        }

    def finished(self) -> Scores | None:
        """The best scores, where the folder holds this training and it is finished. Raises DataError for another's."""
        meta = self.folder / META
        if (self.folder / LAST).exists() or not meta.exists():
            return None
        try:
            found = json.loads(meta.read_text())
            self._refuse_another(meta, _same(found))
            scores: Scores = found["metrics"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{meta} is damaged: {error}; remove it and start anew") from None
        return scores

    def open(self, resume: bool) -> str | None:
        """Make the folder, or go on from what it holds: then the id of its run in MLflow. Raises DataError."""
        last = self.folder / LAST
        if resume:
            return self._restore(last)
        if last.exists():
            raise DataError(f"{self.folder} holds an interrupted training: --resume goes on with it; or remove {last}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"--output_dir {self.folder} cannot be made: {error.strerror}") from None
        return None

    def save(self, run_id: str | None) -> None:
        """After an epoch. Raises DataError."""
        training = self._training
        if parallel.rank() > 0:
            return
        try:
            if training.best is training.history[-1]:
                self.meta["trained_at"] = datetime.now(UTC).isoformat(timespec="seconds")
                self._write(BEST, training.model.state_dict())
            now = time.monotonic()
            seconds = [*self.meta.get("epoch_seconds", []), round(now - self._since, 2)]
            self._since = now
            self.meta |= {"metrics": training.best, "history": training.history, "epoch_seconds": seconds}
            self._write_meta()
            record = {"trained_at": self.meta["trained_at"], "epoch_seconds": seconds, "run_id": run_id}
            self._write(LAST, {"same": _same(self.meta), "record": record, "training": training.state()})
        except OSError as error:
            raise DataError(f"cannot write to {self.folder}: {error.strerror}; --resume goes on from there") from None

    def close(self) -> None:
        """The training is finished: nothing is left to go on with."""
        if parallel.rank() == 0:
            (self.folder / LAST).unlink(missing_ok=True)

    def _restore(self, last: Path) -> str | None:
        if not last.is_file():
            raise DataError(f"nothing to resume: {last} does not exist")
        try:
            saved = torch.load(last, map_location=self._training.machine.device, weights_only=True)
        except Exception as error:  # on damaged bytes torch raises whatever its parsing runs into
            raise DataError(f"{last} is damaged: {type(error).__name__}; remove it and start anew") from None
        self._refuse_another(last, saved["same"])
        self._training.restore(saved["training"])
        self.meta |= {name: saved["record"][name] for name in ("trained_at", "epoch_seconds")}
        self.meta |= {"metrics": self._training.best, "history": self._training.history}
        run_id: str | None = saved["record"]["run_id"]
        return run_id

    def _refuse_another(self, file: Path, same: Mapping[str, Any]) -> None:
        differences = [key for key, value in _same(self.meta).items() if same.get(key, _DEFAULTS.get(key)) != value]
        if differences:
            raise DataError(f"{file} is of a training with other {', '.join(differences)}; --resume needs the same")

    def _write(self, name: str, content: Any) -> None:
        part = self.folder / f"{name}.part"
        torch.save(content, part)
        part.replace(self.folder / name)

    def _write_meta(self) -> None:
        part = self.folder / f"{META}.part"
        part.write_text(json.dumps(self.meta, indent=2) + "\n")
        part.replace(self.folder / META)


def load_best(model: nn.Module, folder: Path) -> None:
    """The weights of the best epoch of the training in `folder`, which was of such a model."""
    model.load_state_dict(torch.load(folder / BEST, map_location="cpu", weights_only=True))


def _same(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a training to go on, by the names a user knows."""
    found: dict[str, Any] = json.loads(json.dumps(meta))  # tuples as they come back from a file
    return {
        **_DEFAULTS,
        **{f"--{name}": value for name, value in found["recipe"].items()},
        "--weights": found["pretrained"],
        "--folds": found["fold"],
        "bag": found.get("bag"),
        "--workers": found["machine"]["workers"],  # each has random numbers of its own
        "--compile": found["machine"]["compile"],
        "--bfloat16": found["machine"]["bfloat16"],
        "device": found["machine"]["device"],
        "processes": found["machine"]["processes"],
        "photographs": found["data"]["fingerprint_sha256"],
    }
