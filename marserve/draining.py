"""An end without a lost request: load balancers learn of it, what is new is refused, what was accepted is answered.

TorchServe itself closes every connection on SIGTERM, with the requests on them: it may only be asked to end when there
is none left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from marserve.boot.slots import Slots, Work
from marserve.connections import connections, stop_listening
from marserve.management import Management, NoAnswerError, Version
from marserve.settings import Addresses

INTERVAL = 0.05  # seconds between two looks
QUIET = 3  # looks in a row with nothing in flight: a request may be just between two of the places that are looked at


class Drain:
    """Of the TorchServe with that process id. It is over early once `given_up` says so."""

    def __init__(self, pid: int, listening: Addresses, slots: Slots, given_up: Callable[[], bool]) -> None:
        self._pid = pid
        self._listening = listening
        self._slots = slots
        self._given_up = given_up
        self._management = Management(listening.management)

    def run(self, notice: float, grace: float) -> int:
        """Go on as before for `notice` seconds, then refuse what is new, and return when nothing is in flight.

        Or `grace` seconds after the start; how many requests are in flight then, at least.
        """
        deadline = time.monotonic() + grace
        self._sleep(min(notice, grace))
        stop_listening(self._pid, (self._listening.rest.port, self._listening.grpc.port))
        # Open connections could bring new requests for ever. A model's queue is first in, first out: when its workers
        # have taken as many as were there at first, what is left in it is new, and they refuse it.
        due: dict[str, int] | None = None
        in_flight, quiet = 0, 0
        while quiet < QUIET and time.monotonic() < deadline and not self._given_up():
            with suppress(NoAnswerError):
                versions, work = self._management.versions(), self._slots.work()
                if due is None:
                    due = {_key(one): _taken(one, work) + _ahead(one) for one in versions if one.pending}
                if all(_taken(one, work) >= due.get(_key(one), 0) for one in versions):
                    self._slots.refuse()
                in_flight = max(sum(one.pending for one in versions) + _working(work), self._busy_connections())
                quiet = quiet + 1 if in_flight == 0 else 0
            self._sleep(INTERVAL)
        self._management.close()
        return in_flight

    def _busy_connections(self) -> int:
        """Over gRPC bytes that come in are not always requests; TorchServe closes these connections in good order."""
        try:
            return sum(connection.busy for connection in connections(self._listening.rest.port))
        except OSError:
            return 0

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._given_up():
            time.sleep(min(left, INTERVAL))


def _key(version: Version) -> str:
    return f"{version.model}/{version.version}"


def _taken(version: Version, work: Mapping[int, Work]) -> int:
    """Requests that its workers have taken out of its queue so far."""
    own = [work[worker.pid] for worker in version.workers if worker.pid in work]
    return sum(one.answered + one.working for one in own)


def _ahead(version: Version) -> int:
    """Requests in the queue, and those that may be on the way from there to a worker."""
    return version.pending + version.settings["batchSize"] * len(version.workers)


def _working(work: Mapping[int, Work]) -> int:
    return sum(one.working for one in work.values())
