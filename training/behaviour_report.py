"""The report of a training on movements: a page with its figures, curves, scores, features and drawn movements."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure
from sklearn.metrics import det_curve, roc_curve

from handlers.trajectory import FEATURES, Trajectory
from training.detection import Rows, Scores
from training.figures import subplots
from training.movements import HUMAN

TEMPLATE = Path(__file__).with_name("behaviour_report.html")
_SHOWN = 6  # movements of each family
_MOST_FEATURES = 20  # in the picture of the importances


def write_report(
    folder: Path,
    meta: Mapping[str, Any],
    rows: Rows,
    movements: Sequence[Trajectory],
    scores: Scores,
    threshold: float,
) -> Path:
    """`folder`/index.html and its pictures, replacing an older report. `scores` are higher for bots. Raises OSError."""
    figures = {
        "curves": curves(rows, scores, threshold),
        "scores": histograms(rows, scores, threshold),
        "importances": importances(meta["importances"]),
        "movements": drawn(rows, movements, scores, threshold),
    }
    environment = Environment(loader=FileSystemLoader(TEMPLATE.parent), autoescape=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", bbox_inches="tight")
    page = folder / "index.html"
    template = environment.get_template(TEMPLATE.name)
    page.write_text(template.render(meta=meta, figures=meta["metrics"], features=FEATURES))
    return page


def curves(rows: Rows, scores: Scores, threshold: float) -> Figure:
    """ROC, and the same errors on logarithmic axes (DET), per family of bots."""
    figure, (roc, det) = subplots(9, 4, columns=2)
    for family in rows.families:
        chosen = rows.human | (rows.family == family)
        truth, scored = ~rows.human[chosen], scores[chosen]
        flagged, caught, _ = roc_curve(truth, scored)
        roc.plot(flagged, caught, label=family, lw=1.2)
        flagged, missed, _ = det_curve(truth, scored)
        det.plot(np.maximum(flagged, 1e-4), np.maximum(missed, 1e-4), label=family, lw=1.2)
    share = float((scores[rows.human] > threshold).mean())
    for axis in (roc, det):
        axis.axvline(share, color="grey", linestyle=":", lw=1)
        axis.set_xlabel("share of people's movements flagged")
    roc.set(ylabel="share of bots caught", title="ROC", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    det.set(ylabel="share of bots missed", title="DET", xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1))
    roc.legend(fontsize=7, loc="lower right")
    return figure


def histograms(rows: Rows, scores: Scores, threshold: float) -> Figure:
    """How the scores of people and of each family lie."""
    families = [HUMAN, *rows.families]
    figure, axes = subplots(8, 0.75 * len(families), rows=len(families), sharex=True)
    bins = np.linspace(scores.min(), scores.max(), 61)
    for axis, family in zip(axes, families, strict=True):
        axis.hist(scores[rows.family == family], bins, color="tab:green" if family == HUMAN else "tab:red", alpha=0.7)
        axis.axvline(threshold, color="black", linestyle=":", lw=1)
        axis.set_yticks([])
        axis.set_ylabel(family, rotation=0, ha="right", va="center", fontsize=8)
    axes[-1].set_xlabel("score: the higher, the more it looks like a bot; dotted: the threshold")
    return figure


def importances(of: Mapping[str, float]) -> Figure:
    """How much AUC is lost on the test where a feature is shuffled."""
    chosen = sorted(of.items(), key=lambda item: item[1])[-_MOST_FEATURES:]
    figure, (axis,) = subplots(6, 0.8 + 0.22 * len(chosen))
    axis.barh([name for name, _ in chosen], [value for _, value in chosen], color="tab:blue", height=0.7)
    axis.set_xlabel("AUC lost where the feature is shuffled")
    axis.tick_params(axis="y", labelsize=7)
    axis.margins(y=0.01)
    return figure


def drawn(rows: Rows, movements: Sequence[Trajectory], scores: Scores, threshold: float) -> Figure:
    """A few movements of each family; a point per report of the mouse, red where it is flagged."""
    families = [HUMAN, *rows.families]
    figure, axes = subplots(1.5 * _SHOWN, 1.3 * len(families), rows=len(families), columns=_SHOWN)
    random = np.random.default_rng(0)
    for axis in axes:
        axis.set_axis_off()
    for line, family in enumerate(families):
        of_family = np.flatnonzero(rows.family == family)
        chosen = random.choice(of_family, min(_SHOWN, len(of_family)), replace=False)
        for axis, index in zip(axes[line * _SHOWN :], chosen, strict=False):
            movement, flagged = movements[index], scores[index] > threshold
            axis.plot(movement.x, movement.y, ".-", lw=0.5, ms=2, color="tab:red" if flagged else "tab:green")
            axis.invert_yaxis()  # screens count downwards
            axis.margins(0.15)
        axes[line * _SHOWN].set_title(family, fontsize=8, loc="left")
    return figure
