"""Bagging: several networks, each trained on a bootstrap sample, whose probabilities are averaged.

Source: Breiman, Bagging Predictors, Machine Learning 24, 1996. The validation part is one and the same, and no network
learns from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from training import parallel
from training.assess import Assessment, assess
from training.captcha_dataset import Photo
from training.checkpoint import BEST, META, load_best
from training.cli import DataError
from training.ensemble import Ensemble
from training.network import ImageClassifier, class_groups
from training.recipe import spoken
from training.runner import Job, begun, run
from training.splits import parts_of


@dataclass(frozen=True, slots=True)
class Bagged:
    """What an ensemble says of photographs: the mean of its networks' probabilities, and (images,) the share of those
    whose own likeliest group is the ensemble's."""

    assessment: Assessment
    agreement: NDArray[np.float64]


def folders_of(job: Job) -> list[Path]:
    """Where the trainings of a job lie: of an ensemble's networks, or of its one network."""
    count = job.recipe.bags
    return [job.output_dir / f"bag_{number}" for number in range(1, count + 1)] if count > 1 else [job.output_dir]


def train(job: Job, resume: bool) -> None:
    """A network, or an ensemble, as the recipe says. Raises DataError."""
    if job.recipe.bags > 1:
        train_bags(job, resume)
    else:
        run(job, resume)


def train_bags(job: Job, resume: bool) -> dict[str, float]:
    """Train the networks, each with its own folder, and write the ensemble as `run` writes a network; its scores.

    Raises DataError.
    """
    count, own = job.recipe.bags, folders_of(job)
    there = begun(own, resume)
    with job.record(job.output_dir.name) as record:
        for number, folder in enumerate(own, start=1):
            if parallel.rank() == 0:
                print(f"bag {number} of {count}", flush=True)
            run(replace(job, output_dir=folder, bag=(number, count)), resume and folder in there, nested=True)
        scores = _write(job, own) if parallel.rank() == 0 else {}
        if parallel.rank() == 0:
            record.log_scores(scores, 0)
            print(
                f"the ensemble's {', '.join(f'{spoken(name)} {score:.4f}' for name, score in scores.items())}: "
                f"{job.output_dir / BEST}"
            )
    return scores


def bagged(models: Sequence[ImageClassifier], photos: Sequence[Photo], job: Job, meta: dict[str, Any]) -> Bagged:
    """Run `photos` through all of them. Raises DataError."""
    said = [assess(model, photos, meta["members"], job.recipe, job.machine) for model in models]
    mean = Assessment(photos, meta["members"], np.mean([one.probabilities for one in said], axis=0))
    return Bagged(mean, np.mean([one.predicted == mean.predicted for one in said], axis=0))


def _write(job: Job, folders: Sequence[Path]) -> dict[str, float]:
    """best_model.pth and meta.json of the ensemble; its scores."""
    metas = [json.loads((folder / META).read_text()) for folder in folders]
    ensemble = Ensemble(class_groups(metas[0]["members"]), job.recipe.architecture, job.recipe.head, len(folders))
    for model, folder in zip(ensemble.members, folders, strict=True):
        load_best(model, folder)
    _, validation = parts_of(job.photos, job.recipe.validation_share, job.recipe.seed)
    said = bagged(ensemble.members, validation, job, metas[0])
    truth, predicted = said.assessment.truth, said.assessment.predicted
    scores = {
        "val_accuracy": float(accuracy_score(truth, predicted)),
        "val_weighted_f1": float(f1_score(truth, predicted, average="weighted", zero_division=0)),
        "val_macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        "val_agreement": float(said.agreement.mean()),
    }
    of_one = ("bag", "history", "epoch_seconds")  # what is of one network alone
    meta = {name: value for name, value in metas[0].items() if name not in of_one}
    meta |= {
        "metrics": scores,
        "networks": [
            {"folder": folder.name, "metrics": one["metrics"]} for folder, one in zip(folders, metas, strict=True)
        ],
        "trained_at": max(one["trained_at"] for one in metas),
    }
    try:
        torch.save(ensemble.cpu().state_dict(), job.output_dir / BEST)
        (job.output_dir / META).write_text(json.dumps(meta, indent=2) + "\n")
    except OSError as error:
        raise DataError(f"cannot write to {job.output_dir}: {error.strerror}; --resume goes on from there") from None
    return scores
