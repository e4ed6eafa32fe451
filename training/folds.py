"""Stratified cross-validation: how far the accuracy moves with the photographs that happen to be set apart."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from training import parallel
from training.runner import Job, begun, run

SUMMARY = "folds.json"


def cross_validate(job: Job, count: int, resume: bool) -> None:
    """Train `count` models, each with its own folder, and write folds.json. Raises DataError."""
    folders = [job.output_dir / f"fold_{number}" for number in range(1, count + 1)]
    there = begun(folders, resume)
    scores = []
    with job.record(job.output_dir.name) as record:
        for number, folder in enumerate(folders, start=1):
            if parallel.rank() == 0:
                print(f"fold {number} of {count}", flush=True)
            part = replace(job, output_dir=folder, fold=(number, count))
            scores.append(run(part, resume and folder in there, nested=True))
        accuracies = np.array([score["val_accuracy"] for score in scores])
        summary = {"accuracy_mean": accuracies.mean(), "accuracy_std": accuracies.std(ddof=1), "folds": scores}
        record.log_scores({name: summary[name] for name in ("accuracy_mean", "accuracy_std")}, 0)
    if parallel.rank() == 0:
        (job.output_dir / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
        print(
            f"accuracy {accuracies.mean():.4f} +- {accuracies.std(ddof=1):.4f} (standard deviation over {count} folds)"
        )
