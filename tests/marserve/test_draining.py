"""When an end may come, over a management API and workers that say what a test wants them to say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from marserve.boot.slots import Slot, Slots
from marserve.draining import Drain
from marserve.settings import Address, Addresses, free_loopback
from tests.marserve.test_client import rest_server
from tests.marserve.test_health import TorchServe, at

LISTEN = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(flush=True)
time.sleep(99)
"""
FOR_EVER = 60.0  # seconds; no test waits for it


class Server:
    """A process that listens, a management API in this one, and a worker, which is this process too."""

    def __init__(self, pid: int, listening: Addresses, folder: Path, torchserve: TorchServe) -> None:
        self.listening = listening
        self.torchserve = torchserve
        self.slots = Slots(folder)
        self.worker = Slot(folder)
        self.impatient = False
        self.drain = Drain(pid, listening, self.slots, lambda: self.impatient)

    def pending(self, requests: int) -> None:
        self.torchserve.models["cat"][0]["jobQueueStatus"]["pendingRequests"] = requests

    def start(self, notice: float = 0, grace: float = FOR_EVER) -> Callable[[], int]:
        """Drain in a thread; what waits for the result."""
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(self.drain.run(notice, grace)))
        thread.start()

        def result() -> int:
            thread.join(30)
            return results[0]

        return result


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    torchserve = TorchServe()
    torchserve.add("cat", "1.0", "READY")
    torchserve.models["cat"][0]["workers"][0]["pid"] = os.getpid()
    with rest_server(torchserve) as url, listener() as (pid, rest):
        listening = Addresses(*(free_loopback() for _ in range(5)))
        yield Server(pid, replace(listening, rest=rest, management=at(url)), tmp_path, torchserve)


@contextmanager
def listener() -> Iterator[tuple[int, Address]]:
    address = free_loopback()
    command = [sys.executable, "-c", LISTEN, str(address.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid, address
        process.kill()


def connects(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_with_nothing_in_flight_it_is_over(server: Server) -> None:
    assert connects(server.listening.rest)
    assert server.drain.run(0, FOR_EVER) == 0
    assert not connects(server.listening.rest)
    assert server.worker.refusing


def test_a_batch_in_a_worker_is_waited_for(server: Server) -> None:
    server.worker.take(2)
    result = server.start()
    wait_for(lambda: server.worker.refusing)  # nothing waits in the queue: all that comes is new
    assert not connects(server.listening.rest)
    server.worker.done()
    assert result() == 0


def test_nothing_is_refused_while_what_came_before_is_in_the_queue(server: Server) -> None:
    """Three in the queue, and as many as one batch (of one) may be on the way from there to the worker."""
    server.pending(3)
    result = server.start()
    wait_for(lambda: server.torchserve.looks > 1)
    for _ in range(3):
        server.worker.take(1)
        server.worker.done()
    time.sleep(0.3)  # several looks
    assert not server.worker.refusing
    server.worker.take(1)
    wait_for(lambda: server.worker.refusing)
    server.worker.done()
    server.pending(0)
    assert result() == 0


def test_a_body_that_is_on_its_way_is_waited_for(server: Server) -> None:
    rest = server.listening.rest
    with socket.create_connection((rest.host, rest.port)) as client:
        time.sleep(0.05)
        client.sendall(b"POST / HTTP/1.1")
        result = server.start()
        wait_for(lambda: server.worker.refusing)
        time.sleep(0.3)
        assert not connects(rest)  # and that one is still open
    assert result() == 0


def test_the_grace_period_ends(server: Server) -> None:
    server.pending(3)
    server.worker.take(2)
    assert server.drain.run(0, 0.2) == 5


@pytest.mark.parametrize("notice", [0.0, FOR_EVER])
def test_who_has_no_patience_does_not_wait(server: Server, notice: float) -> None:
    server.worker.take(2)
    result = server.start(notice)
    server.impatient = True
    result()


def test_during_the_notice_all_is_as_before(server: Server) -> None:
    result = server.start(notice=FOR_EVER)
    time.sleep(0.2)
    assert connects(server.listening.rest)
    assert not server.worker.refusing
    server.impatient = True
    result()


def test_a_torchserve_that_does_not_say_is_given_time(server: Server) -> None:
    server.torchserve.answers = False
    result = server.start()
    wait_for(lambda: not connects(server.listening.rest))
    time.sleep(0.3)
    assert not server.worker.refusing
    server.torchserve.answers = True
    assert result() == 0
