"""Steps of one item that may fail, or take too long, without costing any other item."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from handlers.errors import InternalError, RequestError, TooLargeError

log = logging.getLogger(__name__)


def guard(step: Any, *arguments: Any) -> Any:
    """The step's result, or its error as a value; a bug of ours goes to the log, the client gets a bare 500."""
    try:
        return step(*arguments)
    except RequestError as error:
        return error
    except Exception:
        log.exception("%s failed", getattr(step, "__qualname__", step))
        return InternalError("the server failed on this input; its log says why")


class Unlimited:
    """The budget of a request with one instance: it has all the time it takes."""

    spent = False
    guard = staticmethod(guard)

    def renew(self) -> None:
        """Nothing is used up."""

    def charge(self, seconds: float) -> None:
        """Nothing is used up."""


UNLIMITED = Unlimited()


class Budget:
    """The time that all instances of one request may take together in one step; what comes after is refused.

    Threads that decode side by side are charged for each of them. Every one looks at the budget before it starts, so
    what is under way in the others when it is spent is still finished.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds
        self._lock = threading.Lock()

    def renew(self) -> None:
        """Before the next step."""
        self._left = self._seconds

    @property
    def spent(self) -> bool:
        return self._left <= 0

    def charge(self, seconds: float) -> None:
        with self._lock:  # or two threads that subtract at once lose one of their charges
            self._left -= seconds

    def guard(self, step: Any, *arguments: Any) -> Any:
        """As the function of that name; TooLargeError where nothing is left."""
        if self.spent:
            return too_long()
        started = time.perf_counter()
        result = guard(step, *arguments)
        self.charge(time.perf_counter() - started)
        return result


def too_long() -> TooLargeError:
    return TooLargeError("the instances before this one took too long: send fewer or smaller ones in a request")
