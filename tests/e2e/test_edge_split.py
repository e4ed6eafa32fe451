"""A candidate beside the default version: who gets to it over REST and gRPC, for how long, and whom it disturbs."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from loadtest.bench.processes import free_port
from marserve.edge import split
from marserve.edge.process import EdgeDir
from marserve.errors import MarserveError
from marserve.protos import inference_pb2, inference_pb2_grpc
from tests.e2e.edge import PUPIL, PUPIL_CONFIG, Edge, edging
from tests.e2e.server import Server, serving
from tests.e2e.test_boot import write_bare
from tests.e2e.test_edge_grpc import code, predict
from tests.e2e.test_reliability import wait_for

ASK = "/predictions/pupil"
LIMITS = {"in_flight": 1, "queue": 2, "queue_seconds": 10}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """1.0 of the model `pupil`, which is the default, and 2.0."""
    store = tmp_path_factory.mktemp("store")
    for version in ("1.0", "2.0"):
        write_bare(store, "pupil", PUPIL, PUPIL_CONFIG.replace("Workers: 1", "Workers: 2"), version)
    with serving("--model-store", str(store)) as server:
        httpx.put(f"{server.management}/models/pupil/1.0/set-default").raise_for_status()
        yield server


@pytest.fixture(scope="module")
def edge(versions: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edging(versions, tmp_path_factory.mktemp("edge"), {}) as running:
        yield running


@pytest.fixture
def client(edge: Edge) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=edge.url, timeout=30) as opened:
        yield opened


@contextmanager
def splitting(edge: Edge, share: float, version: str = "2.0") -> Iterator[EdgeDir]:
    """As a rollout does it: said again each second, and taken back at the end."""
    rundir = EdgeDir(edge.port)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(1):
            split.set_share(rundir, "pupil", version, share)

    split.set_share(rundir, "pupil", version, share)
    with ThreadPoolExecutor() as pool:
        renewing = pool.submit(renew)
        try:
            yield rundir
        finally:
            stop.set()
            renewing.result()
            split.clear(rundir, "pupil")


def ask(client: httpx.Client, path: str = ASK, **headers: str) -> str:
    """The version that answers."""
    reply = client.post(path, content=b"version", headers={name.replace("_", "-"): v for name, v in headers.items()})
    version: str = reply.raise_for_status().json()["version"]
    return version


def candidates(client: httpx.Client, sessions: range) -> set[int]:
    """Those of these sessions that the candidate answers."""
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda session: ask(client, X_Session_ID=str(session)), sessions)
        return {session for session, version in zip(sessions, answers, strict=True) if version == "2.0"}


def lines(edge: Edge, reply: httpx.Response) -> list[dict[str, Any]]:
    """What the access log has of that request."""
    marker = reply.headers["x-request-id"]
    wait_for(lambda: marker in edge.access_log.read_text())
    return [json.loads(line) for line in edge.access_log.read_text().splitlines() if marker in line]


def test_a_larger_share_has_the_sessions_of_a_smaller_one(edge: Edge, client: httpx.Client) -> None:
    found = {}
    for share in (0.05, 0.25, 1.0):
        with splitting(edge, share):
            found[share] = candidates(client, range(1000))
        assert len(found[share]) == pytest.approx(1000 * share, abs=20)
    assert found[0.05] < found[0.25] < found[1.0]
    assert candidates(client, range(50)) == set()


def test_the_share_is_kept_over_many_sessions(tmp_path: Path) -> None:
    """Of requests that no server answers: the log tells where they went."""
    with edging(free_port(), tmp_path, {"models": {"pupil": None}}) as edge:
        wait_for(lambda: httpx.get(f"{edge.url}/health").status_code == 503)
        for share in (0.05, 0.25):
            found: Counter[str] = Counter()
            with splitting(edge, share):
                for first in range(0, 10_000, 1000):
                    found += splits_of(edge, range(first, first + 1000))
            assert found.keys() == {"default", "candidate"}
            assert found["candidate"] == pytest.approx(10_000 * share, abs=100)


def splits_of(edge: Edge, sessions: range) -> Counter[str]:
    """What the log has of requests that are sent at once, over one connection."""
    before = edge.access_log.stat().st_size
    with socket.create_connection(("127.0.0.1", edge.port)) as connection:
        for session in sessions:
            head = f"POST {ASK} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-Session-ID: {session}\r\n"
            last = "Connection: close\r\n" if session == sessions[-1] else ""
            connection.sendall(f"{head}{last}\r\n".encode())
        while connection.recv(65536):
            pass

    def lines() -> list[bytes]:
        return edge.access_log.read_bytes()[before:].splitlines()

    wait_for(lambda: len(lines()) == len(sessions))
    return Counter(json.loads(line)["split"] for line in lines())


def test_a_session_stays_with_its_version(edge: Edge, client: httpx.Client) -> None:
    with splitting(edge, 0.5):
        for name in map(str, range(20)):
            version = ask(client, X_Session_ID=name)
            for headers in ({"X_Session_ID": name, "Cookie": "session=x"}, {"Cookie": f"a=b; session={name}"}):
                assert {ask(client, **headers) for _ in range(3)} == {version}
            assert ask(client, "/explanations/pupil", X_Session_ID=name) == version
        counts = Counter(ask(client) for _ in range(400))  # nobody's session: by chance
        assert counts["2.0"] == pytest.approx(200, abs=60)  # six standard deviations
        assert Counter(ask(client, X_Session_ID="") for _ in range(60)).keys() == {"1.0", "2.0"}


def test_it_ends_where_nobody_says_it_again(edge: Edge, client: httpx.Client) -> None:
    split.set_share(EdgeDir(edge.port), "pupil", "2.0", 1)
    assert ask(client) == "2.0"
    wait_for(lambda: ask(client) == "1.0", split.LEASE + 10)  # asking does not prolong it
    assert {ask(client) for _ in range(20)} == {"1.0"}


def test_who_names_a_version_gets_that(edge: Edge, client: httpx.Client) -> None:
    with splitting(edge, 1):
        assert ask(client) == ask(client, f"{ASK}?a=b") == ask(client, "/explanations/pupil") == "2.0"
        assert ask(client, f"{ASK}/1.0") == ask(client, "/explanations/pupil/1.0") == "1.0"
        assert ask(client, f"{ASK}/2.0") == "2.0"


def test_the_log_tells_them_apart(edge: Edge, client: httpx.Client) -> None:
    def logged(path: str = ASK) -> tuple[str, str, str]:
        (line,) = lines(edge, client.post(path, content=b"version"))
        return line["path"], line["version"], line["split"]

    assert logged() == (ASK, "-", "-")
    with splitting(edge, 0.5):
        assert {logged() for _ in range(60)} == {(ASK, "-", "default"), (ASK, "2.0", "candidate")}
        assert logged(f"{ASK}/1.0") == (f"{ASK}/1.0", "1.0", "-")
    assert EdgeDir(edge.port).read_access_log_file() == edge.access_log


def test_grpc(edge: Edge) -> None:
    def version(data: bytes = b"", **options: Any) -> str:
        answer = json.loads(predict(channel, b"version " + data, **options))
        assert answer["digest"] == hashlib.sha256(data).hexdigest()
        name: str = answer["version"]
        return name

    with grpc.insecure_channel(edge.grpc) as channel:
        assert version() == "1.0"
        with splitting(edge, 0.5):
            for name in map(str, range(20)):
                with httpx.Client(base_url=edge.url) as client:
                    over_rest = ask(client, X_Session_ID=name)
                for metadata in ([("x-session-id", name)], [("cookie", f"session={name}")]):
                    assert version(metadata=metadata) == over_rest
        with splitting(edge, 1):
            data = [os.urandom(size) for size in (0, 1, 16_379, 16_384, 100_000, 2_000_000)]
            with ThreadPoolExecutor(8) as pool:
                assert set(pool.map(version, data * 10)) == {"2.0"}
            assert version(b"a" * 1000, compression=grpc.Compression.Gzip) == "1.0"  # the edge cannot read it
            stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)
            request = inference_pb2.PredictionsRequest(model_name="pupil", input={"data": b"version"})
            request.model_version = "1.0"
            assert json.loads(stub.Predictions(request, timeout=10).prediction)["version"] == "1.0"
            request.model_version = '"\\\n\x00'
            assert code(lambda: stub.Predictions(request, timeout=10)) == grpc.StatusCode.NOT_FOUND
        wait_for(lambda: '"\\"\\\\\\n' in edge.access_log.read_text())
        assert all(json.loads(line) for line in edge.access_log.read_text().splitlines())


def test_a_version_that_is_not_there(edge: Edge, client: httpx.Client) -> None:
    version = "3" * 128  # the longest that there may be
    with splitting(edge, 1, version), grpc.insecure_channel(edge.grpc) as channel:
        reply = client.post(ASK, content=b"version")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
        assert lines(edge, reply)[0]["version"] == version
        assert code(lambda: predict(channel, b"x")) == grpc.StatusCode.NOT_FOUND
        stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)
        request = inference_pb2.PredictionsRequest(model_name="pupil", input={"data": b"x"})
        assert code(lambda: list(stub.StreamPredictions(request, timeout=10))) == grpc.StatusCode.NOT_FOUND


def test_a_candidate_that_hangs_holds_nobody_else_up(versions: Server, tmp_path: Path) -> None:
    """One request is with it, two wait; the fourth is refused. The default version has its own queue."""
    with (
        edging(versions, tmp_path, {"model": LIMITS}) as edge,
        httpx.Client(base_url=edge.url, timeout=30) as client,
        splitting(edge, 0.5) as rundir,
        ThreadPoolExecutor(3) as pool,
    ):
        by_version = {ask(client, X_Session_ID=str(number)): str(number) for number in range(20)}
        candidate, default = ({"x-session-id": by_version[version]} for version in ("2.0", "1.0"))
        busy = [pool.submit(client.post, ASK, content=b"sleep 1", headers=candidate) for _ in range(3)]
        wait_for(lambda: split.in_flight(rundir, "pupil") == 3)
        over = client.post(ASK, content=b"version", headers=candidate)
        assert (over.status_code, lines(edge, over)[0]["split"]) == (429, "candidate")
        assert {client.post(ASK, content=b"version", headers=default).status_code for _ in range(20)} == {200}
        assert [one.result().status_code for one in busy] == [200] * 3
        assert split.in_flight(rundir, "pupil") == 0


def test_a_reload_in_the_middle(edge: Edge, client: httpx.Client) -> None:
    """The new worker knows of no split until it is said again; the old one, and what it has begun, stay as they are."""
    with splitting(edge, 1), ThreadPoolExecutor(1) as pool, httpx.Client(base_url=edge.url, timeout=30) as old:
        busy = pool.submit(old.post, ASK, content=b"sleep 4")
        wait_for(lambda: split.in_flight(EdgeDir(edge.port), "pupil") == 1)
        assert edge.reload().returncode == 0
        wait_for(lambda: ask(client) == "2.0")
        assert split.in_flight(EdgeDir(edge.port), "pupil") == 1
        assert busy.result().status_code == 200
        assert lines(edge, busy.result())[0]["split"] == "candidate"


def test_models_that_the_edge_does_not_know(edge: Edge) -> None:
    rundir = EdgeDir(edge.port)
    assert split.knows(rundir, "pupil")
    assert not split.knows(rundir, "nobody")
    assert split.in_flight(rundir, "nobody") == 0
    with pytest.raises(MarserveError, match=f"nobody: `marserve edge reload --port {edge.port}`"):
        split.set_share(rundir, "nobody", "2.0", 0.5)
