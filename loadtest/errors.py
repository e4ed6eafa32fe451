"""What stops a load test before it measures anything, and how its commands end then."""

from __future__ import annotations

import sys
from collections.abc import Callable

from handlers.errors import SpecError
from marserve.errors import MarserveError


class LoadTestError(Exception):
    """Shown to the user as one line, without a traceback; the message says what to do."""


def exit_code(command: Callable[[], int]) -> int:
    """What the command returns; 2 where an error is shown to its user in one line, 130 after Ctrl-C."""
    try:
        return command()
    except (LoadTestError, MarserveError, SpecError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
