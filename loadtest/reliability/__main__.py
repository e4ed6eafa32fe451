"""Try a server and its edge: garbage, dead workers, too many requests, slow clients.

    python -m loadtest.reliability
    python -m loadtest.reliability kills overload --seconds 20

Exit code 0: all that is promised holds; 1: something does not, and is said; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from loadtest.errors import LoadTestError, exit_code
from loadtest.reliability.trials import TRIALS, Options, Outcome
from marserve.terminal import console


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.reliability", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"any of {', '.join(TRIALS)}; default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each part; 6 to 3600, default: %(default)s")
    parser.add_argument("--bodies", type=int, default=10_000, help="of the fuzzing per endpoint; default: %(default)s")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.trials) - set(TRIALS)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(TRIALS)}")
    if not 6 <= args.seconds <= 3600 or not 20 <= args.bodies <= 1_000_000:
        parser.error("--seconds takes 6 to 3600, --bodies 20 to 1,000,000")
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    options = Options(args.model_store, args.seconds, args.bodies)
    outcomes: dict[str, Outcome] = {}
    for name in args.trials or TRIALS:
        print(f"{name}: {(TRIALS[name].__doc__ or '').splitlines()[0]}", flush=True)
        outcomes[name] = TRIALS[name](options)
        console().print(_table(outcomes[name]))
    if args.output:
        try:
            text = json.dumps({name: asdict(one) for name, one in outcomes.items()}, indent=1)
            args.output.write_text(text + "\n")
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


if __name__ == "__main__":
    sys.exit(main())
