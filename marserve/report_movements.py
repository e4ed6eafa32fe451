"""An evaluation of a behaviour model for people: what `marserve evaluate` prints without `--json`."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from marserve.evaluate_movements import FamilyScores, MovementEvaluation, SourceScores
from marserve.terminal import console, plain

MOST_SOURCES = 20
WORST_SOURCES = 10  # where there are more


def print_report(evaluation: MovementEvaluation) -> None:
    out = console()
    unreadable = f", {evaluation.unreadable:,} unreadable" if evaluation.unreadable else ""
    out.print(
        f"{evaluation.model}  version {evaluation.version}: {evaluation.human_movements:,} human and "
        f"{evaluation.bot_movements:,} bot movements{unreadable}"
    )
    out.print(f"AUC {_shown(evaluation.auc)}  equal error rate {_shown(evaluation.eer)}", style="bold")
    out.print(
        f"at threshold {evaluation.threshold:g}: false positives {_shown(evaluation.false_positives)}  "
        f"recall {_shown(evaluation.recall)}"
    )
    out.print(f"with 2 % false positives: recall {_shown(evaluation.recall_at_2_percent)}")
    if evaluation.families:
        out.print(_families(evaluation.families))
    if evaluation.sources:
        _print_sources(out, evaluation.sources)


def _families(families: Mapping[str, FamilyScores]) -> Table:
    table = Table("bots", box=box.SIMPLE_HEAD)
    for heading in ("movements", "recall", "recall at 2 %", "AUC"):
        table.add_column(heading, justify="right")
    for name, scores in families.items():
        figures = (scores.recall, scores.recall_at_2_percent, scores.auc)
        table.add_row(plain(name), f"{scores.movements:,}", *map(_shown, figures))
    return table


def _print_sources(out: Console, sources: Mapping[str, SourceScores]) -> None:
    """The worst first."""
    ordered = sorted(sources.items(), key=lambda item: (-item[1].false_positives, item[0]))
    shown = ordered if len(ordered) <= MOST_SOURCES else ordered[:WORST_SOURCES]
    table = Table("people", box=box.SIMPLE_HEAD)
    table.add_column("movements", justify="right")
    table.add_column("false positives", justify="right")
    for name, scores in shown:
        table.add_row(plain(name or "human"), f"{scores.movements:,}", _shown(scores.false_positives))
    out.print(table)
    if rest := ordered[len(shown) :]:
        out.print(f"{len(rest):,} more, {_shown(rest[0][1].false_positives)} or better")


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.4f}"
