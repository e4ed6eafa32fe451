"""Try versions under load: promoted, rolled out, split, shadowed, and with everything killed once.

    python -m loadtest.operations
    python -m loadtest.operations canaries deaths --seconds 20

Exit code 0: all that is promised holds; 1: something does not, and is said; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest import outcome
from loadtest.errors import exit_code
from loadtest.operations.trials import TRIALS, Options


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.operations", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"any of {', '.join(TRIALS)}; default: all")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a step; 2 to 3600, default: %(default)s")
    parser.add_argument("--requests", type=int, default=10_000, help="of each split; default: %(default)s")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.trials) - set(TRIALS)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(TRIALS)}")
    if not 2 <= args.seconds <= 3600 or not 100 <= args.requests <= 1_000_000:
        parser.error("--seconds takes 2 to 3600, --requests 100 to 1,000,000")
    options = Options(args.model_store, args.seconds, args.requests)
    return exit_code(lambda: outcome.run(TRIALS, args.trials, options, args.output))


if __name__ == "__main__":
    sys.exit(main())
