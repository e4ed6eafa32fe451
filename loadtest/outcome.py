"""What a trial has found, and how several of them are run, printed and kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from loadtest.errors import LoadTestError
from marserve.terminal import console

T = TypeVar("T")


@dataclass(slots=True)
class Outcome:
    """Figures in the order of the trial, and in words what did not hold: promises, and goals that a busy machine may
    miss."""

    figures: dict[str, float | int | str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def promise(self, holds: bool, words: str) -> None:
        if not holds:
            self.broken.append(words)

    def goal(self, holds: bool, words: str) -> None:
        if not holds:
            self.missed.append(words)


def run(trials: Mapping[str, Callable[[T], Outcome]], names: Sequence[str], options: T, output: Path | None) -> int:
    """Those named, or all, one after the other; 1 where something does not hold. Raises LoadTestError."""
    outcomes: dict[str, Outcome] = {}
    for name in names or trials:
        print(f"{name}: {(trials[name].__doc__ or '').splitlines()[0]}", flush=True)
        outcomes[name] = trials[name](options)
        console().print(_table(outcomes[name]))
    if output:
        try:
            text = json.dumps({name: asdict(one) for name, one in outcomes.items()}, indent=1)
            output.write_text(text + "\n")
        except OSError as error:
            raise LoadTestError(f"cannot write the figures: {error}") from None
    for name, one in outcomes.items():
        for kind, said in (("broken", one.broken), ("missed", one.missed)):
            for words in said:
                print(f"{kind}: {name}: {words}", file=sys.stderr)
    return 1 if any(one.broken or one.missed for one in outcomes.values()) else 0


def _table(outcome: Outcome) -> Table:
    table = Table(show_header=False)
    for name, value in outcome.figures.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    return table
