"""What the kernel says of real connections, and listeners of another process that are shut."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from marserve.connections import Connection, connections, stop_listening

ECHO = """
import socket
def listen():
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    return listener
first, second = listen(), listen()
connection, _ = first.accept()
while data := connection.recv(100):
    connection.sendall(data)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_request_and_its_reply(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        assert connections(port) == []
        with socket.create_connection((host, port)) as client, listener.accept()[0] as server:
            (idle,) = connections(port)
            assert not idle.busy
            time.sleep(0.05)  # more than a tick of the kernel's clock
            client.sendall(b"request")
            wait_for(lambda: connections(port)[0].unread == 7)
            assert connections(port)[0].busy
            server.recv(100)
            (read,) = connections(port)
            assert read.unread == 0
            assert read.busy  # not answered
            time.sleep(0.05)
            server.sendall(b"reply")
            wait_for(lambda: not connections(port)[0].busy)
            server.settimeout(0.1)
            with pytest.raises(TimeoutError):
                server.sendall(b"more than its client takes" * 1_000_000)
            assert connections(port)[0].unsent > 0
            assert connections(port)[0].busy
        wait_for(lambda: connections(port) == [])


@pytest.mark.parametrize(
    ("connection", "busy"),
    [
        (Connection(0, 0, 100, 100), False),
        (Connection(0, 0, 90, 100), False),
        (Connection(0, 0, 100, 90), True),
        (Connection(1, 0, 90, 100), True),
        (Connection(0, 1, 90, 100), True),
    ],
)
def test_busy(connection: Connection, busy: bool) -> None:
    assert connection.busy == busy


def test_new_connections_are_refused_and_the_open_one_goes_on() -> None:
    with subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first, second = (int(process.stdout.readline()) for _ in range(2))
            with socket.create_connection(("127.0.0.1", first)) as client:
                client.sendall(b"before")
                assert client.recv(100) == b"before"
                stop_listening(process.pid, [first])
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", first))
                socket.create_connection(("127.0.0.1", second)).close()
                client.sendall(b"after")
                assert client.recv(100) == b"after"
        finally:
            process.kill()


def test_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    stop_listening(process.pid, [1])


def test_ports_that_nobody_listens_on() -> None:
    stop_listening(os.getpid(), [1])
