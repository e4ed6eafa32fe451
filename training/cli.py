"""How the training scripts talk to their user: one line for a mistake, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable


class DataError(Exception):
    """The data or an argument is wrong; the message says what to do."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`: exit code 2 and one line for a DataError, 130 for Ctrl-C."""
    try:
        main()
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
