"""The evaluation of an embedding for people: what `marserve evaluate` prints without `--json`."""

from __future__ import annotations

from rich import box
from rich.table import Table

from marserve.evaluate_retrieval import Retrieval
from marserve.report import MOST_CLASSES, WORST_CLASSES
from marserve.terminal import console, plain


def print_report(evaluation: Retrieval) -> None:
    """The classes with the least precision first."""
    out = console()
    unreadable = f", {evaluation.unreadable:,} unreadable" if evaluation.unreadable else ""
    out.print(
        f"{evaluation.model}  version {evaluation.version}: {evaluation.images:,} images of {evaluation.classes:,} "
        f"classes{unreadable}"
    )
    for what, scores in (("class", evaluation), ("group", evaluation.groups)):
        if scores:
            out.print(
                f"same {what}: precision@1 {scores.precision_at_1:.4f}  precision@5 {scores.precision_at_5:.4f}  "
                f"chance {scores.chance:.4f}",
                style="bold" if what == "class" else "",
            )
    ordered = sorted(evaluation.by_class.items(), key=lambda item: (item[1].precision_at_5, item[0]))
    shown = ordered if len(ordered) <= MOST_CLASSES else ordered[:WORST_CLASSES]
    table = Table("class", box=box.SIMPLE_HEAD)
    for heading in ("images", "precision@1", "precision@5"):
        table.add_column(heading, justify="right")
    for name, row in shown:
        table.add_row(plain(name), f"{row.images:,}", f"{row.precision_at_1:.4f}", f"{row.precision_at_5:.4f}")
    out.print(table)
    if rest := ordered[len(shown) :]:
        out.print(f"{len(rest):,} more classes, precision@5 {rest[0][1].precision_at_5:.4f} or better")
