"""Try versions under load: promoted, rolled out, split, shadowed, and with everything killed once.

    python -m loadtest.operations
    python -m loadtest.operations canaries deaths --seconds 20

Exit code 0: all that is promised holds; 1: something does not, and is said; 2: it could not be run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from loadtest import outcome
from loadtest.operations.trials import TRIALS, Options
from loadtest.outcome import Number

NUMBERS = (
    Number("seconds", 20.0, 2, 3600, "of a step"),
    Number("requests", 10_000, 100, 1_000_000, "of each split"),
)


def main(argv: Sequence[str] | None = None) -> int:
    return outcome.main("loadtest.operations", __doc__ or "", TRIALS, NUMBERS, Options, argv)


if __name__ == "__main__":
    sys.exit(main())
