"""An evaluation for people: what `marserve evaluate` prints without `--json`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from marserve.evaluate import ClassScores, Evaluation, Problem
from marserve.terminal import console, plain

MOST_PROBLEMS = 20
MOST_COLUMNS = 8  # of the confusion table: with more labels it has only their scores
MOST_CLASSES = 20
WORST_CLASSES = 10  # where there are more


def print_problems(problems: Sequence[Problem]) -> None:
    """The images without an answer, on stderr."""
    for path, message in problems[:MOST_PROBLEMS]:
        print(f"unreadable: {plain(path)}: {plain(message)}", file=sys.stderr)
    if len(problems) > MOST_PROBLEMS:
        print(f"unreadable: {len(problems) - MOST_PROBLEMS:,} more", file=sys.stderr)


def print_report(evaluation: Evaluation) -> None:
    out = console()
    unreadable = f", {evaluation.unreadable:,} unreadable" if evaluation.unreadable else ""
    out.print(f"{evaluation.model}  version {evaluation.version}: {evaluation.images:,} images{unreadable}")
    out.print(
        f"accuracy {evaluation.accuracy:.4f}  macro F1 {evaluation.macro_f1:.4f}  "
        f"weighted F1 {evaluation.weighted_f1:.4f}",
        style="bold",
    )
    out.print(f"log loss {evaluation.log_loss:.4f}  calibration error {evaluation.calibration_error:.4f}")
    if absent := [label for label, scores in evaluation.groups.items() if not scores.images]:
        out.print(f"no images of {plain(', '.join(absent))}")
    out.print(_confusion(evaluation))
    if evaluation.classes:
        _print_classes(out, evaluation.classes)


def _confusion(evaluation: Evaluation) -> Table:
    """A row per label: what its images were taken for, and its scores."""
    labels = evaluation.confusion.labels
    shown = labels if len(labels) <= MOST_COLUMNS else []
    table = Table("label", box=box.SIMPLE_HEAD)
    for heading in ("images", *(f"as {plain(label)}" for label in shown), "precision", "recall", "F1"):
        table.add_column(heading, justify="right")
    for index, (label, row) in enumerate(zip(labels, evaluation.confusion.matrix, strict=True)):
        scores = evaluation.groups[label]
        counts = [
            Text(f"{count:,}", "green" if column == index else "red" if count else "")
            for column, count in enumerate(row)
        ]
        figures = [f"{value:.4f}" for value in (scores.precision, scores.recall, scores.f1)]
        table.add_row(plain(label), f"{scores.images:,}", *(counts if shown else []), *figures)
    return table


def _print_classes(out: Console, classes: Mapping[str, ClassScores]) -> None:
    """The worst first."""
    ordered = sorted(classes.items(), key=lambda item: (item[1].accuracy, item[0]))
    shown = ordered if len(ordered) <= MOST_CLASSES else ordered[:WORST_CLASSES]
    table = Table("class", box=box.SIMPLE_HEAD)
    table.add_column("images", justify="right")
    table.add_column("accuracy", justify="right")
    for name, scores in shown:
        table.add_row(plain(name), f"{scores.images:,}", f"{scores.accuracy:.4f}")
    out.print(table)
    if rest := ordered[len(shown) :]:
        out.print(f"{len(rest):,} more classes, {rest[0][1].accuracy:.4f} or better")
