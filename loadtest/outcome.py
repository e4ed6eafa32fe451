"""What a trial has found, and how several of them are run, printed and kept."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from loadtest.errors import LoadTestError, exit_code
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


@dataclass(frozen=True, slots=True)
class Number:
    """An option of a command that tries things: what it is by default, and what it may be."""

    name: str
    default: float
    low: float
    high: float
    help: str

    def __str__(self) -> str:
        return f"{_plain(self.low)} to {_plain(self.high)}"


def main(
    module: str,
    about: str,
    trials: Mapping[str, Callable[[T], Outcome]],
    numbers: Sequence[Number],
    options: Callable[..., T],
    argv: Sequence[str] | None,
) -> int:
    """A command with these trials, of which some may be named. `options` takes `model_store` and the numbers.

    The exit code: 0 where all holds, 1 where something does not, 2 where it could not be run.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about.splitlines()[0])
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"any of {', '.join(trials)}; default: all")
    for one in numbers:
        words = f"{one.help}; {one}, default: {_plain(one.default)}"
        parser.add_argument(f"--{one.name}", type=type(one.default), default=one.default, help=words)
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.trials) - set(trials)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(trials)}")
    given = {one.name: getattr(args, one.name) for one in numbers}
    for one in numbers:
        if not one.low <= given[one.name] <= one.high:
            parser.error(f"--{one.name} takes {one}")
    return exit_code(lambda: _run(trials, args.trials, options(model_store=args.model_store, **given), args.output))


def _run(trials: Mapping[str, Callable[[T], Outcome]], names: Sequence[str], options: T, output: Path | None) -> int:
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


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number >= 10_000 else f"{number:g}"


def _table(outcome: Outcome) -> Table:
    table = Table(show_header=False)
    for name, value in outcome.figures.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    return table
