"""The evaluation of a model that hides faces, for people: what `marserve evaluate` prints without `--json`."""

from __future__ import annotations

from rich import box
from rich.table import Table

from marserve.evaluate_faces import FaceEvaluation
from marserve.report import MOST_CLASSES
from marserve.terminal import console, plain


def print_report(evaluation: FaceEvaluation) -> None:
    """The images with the most faces missed first, then those with the most false alarms; what is right is left out."""
    out = console()
    unreadable = f", {evaluation.unreadable:,} unreadable" if evaluation.unreadable else ""
    out.print(f"{evaluation.model}  version {evaluation.version}: {evaluation.images:,} images{unreadable}")
    shares = (("recall", evaluation.recall), ("precision", evaluation.precision))
    known = "".join(f"{name} {share:.4f}  " for name, share in shares if share is not None)
    out.print(
        f"{known}{evaluation.found:,} of {evaluation.faces:,} faces found, {evaluation.false_alarms:,} false alarms "
        f"in {evaluation.images_with_false_alarms:,} images",
        style="bold",
    )
    out.print(f"a box is one of a drawn face from an intersection over union of {evaluation.overlap} on")
    wrong = {name: row for name, row in evaluation.by_image.items() if row.found < row.faces or row.false_alarms}
    ordered = sorted(wrong.items(), key=lambda item: (item[1].found - item[1].faces, -item[1].false_alarms, item[0]))
    if not ordered:
        return
    table = Table("image", box=box.SIMPLE_HEAD)
    for heading in ("faces", "found", "false alarms"):
        table.add_column(heading, justify="right")
    for name, row in ordered[:MOST_CLASSES]:
        table.add_row(plain(name), f"{row.faces:,}", f"{row.found:,}", f"{row.false_alarms:,}")
    out.print(table)
    if len(ordered) > MOST_CLASSES:
        out.print(f"{len(ordered) - MOST_CLASSES:,} more images with a face missed or a false alarm")
