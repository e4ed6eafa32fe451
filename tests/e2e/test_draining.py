"""An end under load: what was accepted is answered, what is new is refused, nothing is left."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import grpc
import httpx
import pytest

from marserve.protos import inference_pb2, inference_pb2_grpc
from tests.e2e.server import Server, processes_of, serving
from tests.e2e.test_boot import write_bare

HANDLER = """
import time


class SleepingHandler:
    def initialize(self, context):
        self.initialized = True

    def handle(self, rows, context):
        time.sleep(max(float(bytes(row["body"])) for row in rows))
        return ["slept"] * len(rows)
"""
CONFIG = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 2\nmaxBatchDelay: 1\nresponseTimeout: 120\n"


@contextmanager
def sleeping(folder: Path, *arguments: str) -> Iterator[Server]:
    """A server whose model sleeps for as many seconds as a request says."""
    write_bare(folder, "sleeping", HANDLER, CONFIG)
    with serving("--model-store", str(folder), *arguments) as server:
        yield server


def ask(server: Server, seconds: float) -> int:
    return httpx.put(f"{server.url}/predictions/sleeping", content=str(seconds).encode(), timeout=120).status_code


def ask_grpc(server: Server, seconds: float) -> bytes:
    with grpc.insecure_channel(server.grpc) as channel:
        stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)
        data = {"body": str(seconds).encode()}
        request = inference_pb2.PredictionsRequest(model_name="sleeping", input=data)
        return bytes(stub.Predictions(request, timeout=120).prediction)


def wait_until_busy(server: Server, pending: int) -> None:
    """Until so many wait in the queue, behind full workers."""
    deadline = time.monotonic() + 30
    path = f"{server.management}/models/sleeping"
    while httpx.get(path).json()[0]["jobQueueStatus"]["pendingRequests"] < pending:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it came just before, and was not yet accepted
        return False
    return False


def test_what_was_accepted_is_answered_and_what_is_new_is_refused(tmp_path: Path) -> None:
    """Twelve requests: two batches of two are in workers, the others in the queue."""
    with (
        sleeping(tmp_path) as server,
        ThreadPoolExecutor(20) as pool,
        closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as late,  # a connection that stays open
    ):
        assert httpx.get(f"{server.metrics}/health").status_code == 200
        late.request("PUT", "/predictions/sleeping", b"0")
        assert late.getresponse().read() == b"slept"
        rest = [pool.submit(ask, server, 1) for _ in range(8)]
        over_grpc = [pool.submit(ask_grpc, server, 1) for _ in range(4)]
        wait_until_busy(server, 8)
        server.process.send_signal(signal.SIGTERM)
        # Somebody looks at /health: it says so first, while all goes on as before.
        deadline = time.monotonic() + 30
        while (health := httpx.get(f"{server.metrics}/health")).status_code == 200:
            assert time.monotonic() < deadline
        assert health.json()["status"] == "draining"
        while not (refuses(server.port) and refuses(server.port - 1010)):
            assert time.monotonic() < deadline
        # What waited is answered before anything on an open connection is refused, and that with a reason.
        while True:
            late.request("PUT", "/predictions/sleeping", b"0.2")
            reply = late.getresponse()
            if reply.status != 200:
                break
            reply.read()
        assert reply.status == 503
        assert reply.headers["connection"] == "close"
        assert b"The server is about to end: send the request again." in reply.read()
        assert [one.result() for one in rest] == [200] * 8
        assert [one.result() for one in over_grpc] == [b"slept"] * 4
        assert server.process.wait(60) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == "stopped\n"
        assert processes_of(server.port) == []


def test_connections_that_ask_without_end_do_not_keep_it(tmp_path: Path) -> None:
    """Each gets an answer to each of its requests: 200, then 503 and the end of the connection, then a refusal."""
    with sleeping(tmp_path) as server:
        seen: Counter[str] = Counter()

        def ask_on() -> None:
            client = HTTPConnection("127.0.0.1", server.port, timeout=60)
            try:
                while True:
                    client.request("PUT", "/predictions/sleeping", b"0.05")
                    reply = client.getresponse()
                    reply.read()
                    seen[str(reply.status)] += 1
            except OSError as error:
                seen[type(error).__name__] += 1
                client.close()

        threads = [threading.Thread(target=ask_on) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        for thread in threads:
            thread.join(30)
    assert seen.pop("200") > 8
    assert seen == {"503": 8, "ConnectionRefusedError": 8}


def test_the_grace_period_ends_what_takes_longer(tmp_path: Path) -> None:
    with sleeping(tmp_path, "--grace", "1s") as server, ThreadPoolExecutor() as pool:
        long = pool.submit(ask, server, 60)
        wait_until_busy(server, 0)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx.TransportError):
            long.result()
        assert server.process.wait(60) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == "stopped, with 1 requests unanswered\n"


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with sleeping(tmp_path, "--grace", "1000s") as server, ThreadPoolExecutor() as pool:
        long = pool.submit(ask, server, 100)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
        with pytest.raises(httpx.TransportError):
            long.result()
        assert processes_of(server.port) == []
