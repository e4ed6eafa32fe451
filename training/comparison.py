"""What is compared of trainings: scores on unseen photographs, size and time; as a table and as a plot."""

from __future__ import annotations

import csv
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.metrics import accuracy_score, f1_score, recall_score

from training.bags import bagged
from training.captcha_dataset import Photo
from training.checkpoint import META, load_best
from training.cli import DataError
from training.ensemble import Ensemble
from training.figures import subplots
from training.network import ImageClassifier, class_groups
from training.runner import Job

# Images to train on: groups with fewer are rare. So Liu et al., Large-Scale Long-Tailed Recognition, CVPR 2019.
FEW = 20
_TIMED = 20  # runs

Result = dict[str, Any]
_HEADS = {
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "rare_recall": "recall of rare groups",
    "parameters": "parameters",
    "seconds_per_epoch": "seconds per epoch",
    "milliseconds": "ms per image",
}


def measure(job: Job, test: Sequence[Photo], frequencies: Mapping[str, int]) -> Result:
    """The finished training in a job's folder, on photographs that it never saw.

    `accuracy` and `weighted_f1` are those of photographs whose groups are as frequent as those that were trained on
    (`frequencies`: images of each), however many of each there are in `test`. `macro_f1` is the mean over the groups,
    of `test` as it is. `rare_recall` is the mean recall of the groups with fewer than FEW images to train on, None
    where there are none. `milliseconds` is the median time of one image in PyTorch on one thread of this CPU.
    """
    meta = json.loads((job.output_dir / META).read_text())
    recipe = job.recipe
    ensemble = Ensemble(class_groups(meta["members"]), recipe.architecture, recipe.head, recipe.bags)
    model = ensemble if recipe.bags > 1 else ensemble.members[0]
    load_best(model, job.output_dir)
    said = bagged(ensemble.members, test, job, meta).assessment
    in_test = np.bincount(said.truth, minlength=len(said.groups))
    weights = np.array([frequencies[said.groups[group]] / in_test[group] for group in said.truth])
    rare = [index for index, group in enumerate(said.groups) if frequencies[group] < FEW and in_test[index]]
    recalls = recall_score(said.truth, said.predicted, labels=range(len(said.groups)), average=None, zero_division=0)
    truth, found = said.truth, said.predicted
    return {
        "accuracy": float(accuracy_score(truth, found, sample_weight=weights)),
        "weighted_f1": float(f1_score(truth, found, sample_weight=weights, average="weighted", zero_division=0)),
        "macro_f1": float(f1_score(truth, found, average="macro", zero_division=0)),
        "rare_recall": float(recalls[rare].mean()) if rare else None,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "seconds_per_epoch": round(_seconds(job.output_dir, meta), 2),
        "milliseconds": round(_milliseconds(model.cpu().eval(), recipe.input_size[-1]), 2),
        "recall": {group: float(recall) for group, recall in zip(said.groups, recalls, strict=True)},
    }


def write(folder: Path, results: Sequence[Result]) -> None:
    """comparison.md, .csv, .json and .png. Raises DataError."""
    columns = ["name", "seed", *_HEADS]
    try:
        (folder / "comparison.md").write_text(table(results) + "\n")
        (folder / "comparison.json").write_text(json.dumps(results, indent=2) + "\n")
        with (folder / "comparison.csv").open("w", newline="") as file:
            lines = csv.DictWriter(file, columns, extrasaction="ignore")
            lines.writeheader()
            lines.writerows(results)
        plot(results).savefig(folder / "comparison.png", bbox_inches="tight")
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}") from None


def table(results: Sequence[Result]) -> str:
    """Markdown: a row for every name, mean and standard deviation over its seeds."""
    heads = {key: head for key, head in _HEADS.items() if any(result[key] is not None for result in results)}
    lines = [f"| | {' | '.join(heads.values())} |", f"| --- {'| ---: ' * len(heads)}|"]
    for name, own in _by_name(results).items():
        cells = [_cell(key, [result[key] for result in own]) for key in heads]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results: Sequence[Result]) -> Figure:
    """Weighted and macro F1: every training a dot, a line at the mean."""
    names = _by_name(results)
    figure, axes = subplots(10, 1.2 + 0.4 * len(names), columns=2, sharey=True)
    for axis, key in zip(axes, ("weighted_f1", "macro_f1"), strict=True):
        for row, own in enumerate(names.values()):
            scores = [result[key] for result in own]
            axis.plot(scores, [row] * len(scores), "o", color="tab:blue", alpha=0.6)
            axis.plot([statistics.mean(scores)] * 2, [row - 0.3, row + 0.3], color="tab:blue")
        axis.set_title(_HEADS[key])
    axes[0].set_yticks(range(len(names)), list(names))
    axes[0].invert_yaxis()
    return figure


def _by_name(results: Sequence[Result]) -> dict[str, list[Result]]:
    names: dict[str, list[Result]] = {}
    for result in results:
        names.setdefault(result["name"], []).append(result)
    return names


def _cell(key: str, values: Sequence[Any]) -> str:
    mean = statistics.mean(values)
    if key == "parameters":
        return f"{mean:,.0f}"
    if key in ("seconds_per_epoch", "milliseconds"):
        return f"{statistics.median(values):.1f}"
    return f"{mean:.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def _seconds(folder: Path, meta: Mapping[str, Any]) -> float:
    """Median of an epoch's time; of an ensemble, of all its networks together."""
    metas = [json.loads((folder / one["folder"] / META).read_text()) for one in meta.get("networks", [])] or [meta]
    return sum(float(statistics.median(one["epoch_seconds"])) for one in metas)


@torch.inference_mode()
def _milliseconds(model: ImageClassifier | Ensemble, size: int) -> float:
    pixels = torch.zeros((1, 3, size, size), dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: list[float] = []
    for _ in range(_TIMED + 2):
        started = time.perf_counter()
        model(pixels)
        times.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return 1e3 * statistics.median(times[2:])
