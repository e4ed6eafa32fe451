"""Try a server and its edge: garbage, dead workers, too many requests, slow clients.

    python -m loadtest.reliability
    python -m loadtest.reliability kills overload --seconds 20

Exit code 0: all that is promised holds; 1: something does not, and is said; 2: it could not be run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from loadtest import outcome
from loadtest.outcome import Number
from loadtest.reliability.trials import TRIALS, Options

NUMBERS = (
    Number("seconds", 60.0, 6, 3600, "of each part"),
    Number("bodies", 10_000, 20, 1_000_000, "of the fuzzing per endpoint"),
)


def main(argv: Sequence[str] | None = None) -> int:
    return outcome.main("loadtest.reliability", __doc__ or "", TRIALS, NUMBERS, Options, argv)


if __name__ == "__main__":
    sys.exit(main())
