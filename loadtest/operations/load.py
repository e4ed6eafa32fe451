"""Steady clients of a server over REST and gRPC, while something is done to its versions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from loadtest.operations import traffic
from loadtest.reliability.stack import Stack
from loadtest.reliability.traffic import Ask, Seen, send

REST_CLIENTS, GRPC_CLIENTS = 6, 2
PAUSE = 0.005  # seconds between a reply and the client's next request: about half of what two cores can do


class Load:
    """They ask inside of a `with`, or until `stop`."""

    def __init__(self, stack: Stack, wanted: Sequence[Ask]) -> None:
        self._seen: list[Seen] = []
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, args=(lambda: send(stack.edge, wanted, REST_CLIENTS, 1, PAUSE),)),
            threading.Thread(
                target=self._loop, args=(lambda: traffic.send_grpc(stack.grpc, wanted[0], GRPC_CLIENTS, 1, PAUSE),)
            ),
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> list[Seen]:
        """What was seen."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        return self._seen

    def _loop(self, one_second: Callable[[], list[Seen]]) -> None:
        while not self._end.is_set():
            self._seen += one_second()
