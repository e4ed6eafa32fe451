"""The report of a training: a page with its curves, confusion, classes, calibration and most confident mistakes.

A training writes it when it ends. As a script it draws the report of a finished or interrupted training again:

    python training/report.py --data_dir images --output_dir models
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.calibration import calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay, classification_report

from handlers import image
from training.assess import Assessment, assess
from training.captcha_dataset import fingerprint, readable, scan
from training.checkpoint import BEST, META
from training.cli import DataError, run_script
from training.figures import subplots
from training.fit import Machine
from training.network import ImageClassifier, class_groups
from training.recipe import from_record
from training.splits import parts_of

TEMPLATE = Path(__file__).with_name("report.html")
_MISTAKES = 40  # on the contact sheet
_WORST = 30  # classes in the picture; the page lists all


def write_report(folder: Path, meta: Mapping[str, Any], assessment: Assessment) -> Path:
    """`folder`/index.html and its pictures, replacing an older report. Raises DataError."""
    figures = {
        "curves": curves(meta["history"], meta["metrics"]["epoch"]),
        "confusion": confusion(assessment),
        "calibration": calibration(assessment),
        "classes": classes(assessment),
        "mistakes": mistakes(assessment),
    }
    groups = classification_report(
        assessment.truth,
        assessment.predicted,
        labels=range(len(assessment.groups)),
        target_names=assessment.groups,
        output_dict=True,
        zero_division=0,
    )
    environment = Environment(loader=FileSystemLoader(TEMPLATE.parent), autoescape=True)
    page = environment.get_template(TEMPLATE.name).render(
        meta=meta,
        groups={name: groups[name] for name in assessment.groups},
        accuracy=float(assessment.right.mean()),
        images=len(assessment.photos),
        classes=assessment.accuracy_of_classes(),
        mistakes=int((~assessment.right).sum()),
        shown=min(_MISTAKES, int((~assessment.right).sum())),
    )
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", bbox_inches="tight")
        (folder / "index.html").write_text(page)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}") from None
    return folder / "index.html"


def curves(history: Sequence[Mapping[str, float]], best: float) -> Figure:
    """Loss, accuracy and learning rate by epoch."""
    figure, axes = subplots(10, 3.2, columns=3)
    epochs = [scores["epoch"] for scores in history]
    for axis, name in zip(axes, ("loss", "accuracy"), strict=False):
        axis.plot(epochs, [scores[f"train_{name}"] for scores in history], ".-", label="training (varied images)")
        axis.plot(epochs, [scores[f"val_{name}"] for scores in history], ".-", label="validation")
        axis.axvline(best, color="grey", linestyle=":", label=f"best, epoch {best:.0f}")
        axis.set_title(name)
        axis.legend(fontsize=7)
    axes[2].plot(epochs, [scores["learning_rate"] for scores in history], ".-", color="tab:green")
    axes[2].set_title("learning rate")
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    sizes = [scores["input_size"] for scores in history]
    for epoch, before, size in zip(epochs[1:], sizes, sizes[1:], strict=False):
        if size != before:
            axes[1].annotate(f"{size:.0f} px", (epoch, axes[1].get_ylim()[0]), fontsize=7, ha="center", va="bottom")
    return figure


def confusion(assessment: Assessment) -> Figure:
    """Images by true and predicted group."""
    side = 2.6 + 0.4 * len(assessment.groups)
    figure, (axis,) = subplots(side, side)
    axis.grid(visible=False)
    ConfusionMatrixDisplay.from_predictions(
        assessment.truth,
        assessment.predicted,
        labels=range(len(assessment.groups)),
        display_labels=assessment.groups,
        cmap="Blues",
        colorbar=False,
        xticks_rotation=45,
        ax=axis,
    )
    return figure


def calibration(assessment: Assessment) -> Figure:
    """How often predictions of a confidence are right; below it, how many there are."""
    figure, (curve, counts) = subplots(4, 4.2, rows=2, height_ratios=(3, 1))
    right, confidence = calibration_curve(assessment.right, assessment.confidence, n_bins=10)
    curve.plot([0, 1], [0, 1], ":", color="grey", label="perfect")
    curve.plot(confidence, right, "o-", label="this model")
    curve.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    curve.legend(fontsize=8)
    counts.hist(assessment.confidence, bins=np.linspace(0, 1, 11), color="tab:blue", alpha=0.6)
    counts.set(xlabel="confidence of the prediction", ylabel="images", xlim=(0, 1))
    return figure


def classes(assessment: Assessment) -> Figure:
    """Accuracy of the classes with the lowest."""
    worst = list(assessment.accuracy_of_classes().items())[:_WORST]
    figure, (axis,) = subplots(6, 0.8 + 0.22 * len(worst))
    names, shares = [name for name, _ in worst][::-1], [share for _, share in worst][::-1]
    axis.barh(names, shares, color="tab:blue", height=0.7)
    axis.axvline(float(assessment.right.mean()), color="grey", linestyle=":", label="all images")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlim(0, 1)
    axis.tick_params(axis="y", labelsize=7)
    axis.margins(y=0.01)
    axis.legend(fontsize=7, loc="lower left")
    return figure


def mistakes(assessment: Assessment) -> Figure:
    """Contact sheet of the wrong predictions that the network was surest of."""
    chosen = assessment.mistakes()[:_MISTAKES]
    rows = max(1, -(-len(chosen) // 8))
    figure, axes = subplots(10, 1.6 * rows, rows=rows, columns=8)
    for axis in axes:
        axis.axis("off")
    for axis, index in zip(axes, chosen, strict=False):
        photo = assessment.photos[index]
        axis.imshow(image.load(photo.path.read_bytes(), 96))
        group = assessment.groups[assessment.predicted[index]]
        axis.set_title(f"{photo.class_name}\n{group} {assessment.confidence[index]:.2f}", fontsize=7)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the report of a training again.")
    parser.add_argument("--data_dir", type=Path, default=Path("images"), help="what it was trained on")
    parser.add_argument("--output_dir", type=Path, default=Path("models"), help="what it wrote (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode images (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        meta = json.loads((args.output_dir / META).read_text())
        weights = torch.load(args.output_dir / BEST, map_location="cpu", weights_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{args.output_dir} holds no training: {error}") from None
    if "networks" in meta:
        raise DataError(
            f"{args.output_dir} holds an ensemble: its networks have reports: {meta['networks'][0]['folder']}, ..."
        )
    photos = readable(scan(args.data_dir), args.workers)
    if fingerprint(photos) != meta["data"]["fingerprint_sha256"]:
        raise DataError(f"{args.data_dir} does not hold the photographs of that training: another fingerprint")
    _, validation = parts_of(photos, meta["recipe"]["validation_share"], meta["recipe"]["seed"], meta.get("fold"))
    members = meta["members"]
    recipe = from_record(meta["recipe"])
    model = ImageClassifier(class_groups(members), recipe.architecture, recipe.head)
    model.load_state_dict(weights)
    machine = Machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"), args.workers)
    assessment = assess(model, validation, members, recipe, machine)
    print(write_report(args.output_dir / "report", meta, assessment))


if __name__ == "__main__":
    run_script(main)
