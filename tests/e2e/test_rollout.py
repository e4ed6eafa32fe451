"""What a rollout needs to be there before it begins. How it goes is in tests/loadtest/operations."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.operations import variants
from marserve.edge.process import EdgeDir
from tests.e2e.archives import current_store
from tests.e2e.edge import edging, marserve
from tests.e2e.server import MARSERVE, Server, serving
from tests.e2e.test_reliability import wait_for
from tests.paths import ROOT
from tests.tools import need

MODEL = "drag_pattern"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("store")
    for version in ("1.0", "2.0"):
        variants.make(current_store() / f"{MODEL}.mar", store / f"{version}.mar", version)
    with serving("--model-store", str(store), "--fresh") as running:
        yield running


def rollout(server: Server, *arguments: str, model: str = MODEL) -> tuple[int, str]:
    done = marserve("rollout", model, "--port", str(server.port), *arguments)
    return done.returncode, done.stderr


def is_held(lock: Path) -> bool:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize(
    ("model", "version", "said"),
    [
        ("nothing", "2.0", "no model nothing is served"),
        (MODEL, "3.0", f"{MODEL} has no version 3.0 here; it has 1.0, 2.0"),
        (MODEL, "1.0", f"{MODEL} 1.0 is the default already"),
        (MODEL, "2.0", "no marserve edge of yours is running on port 65000"),
    ],
)
def test_what_is_not_there_is_said(server: Server, model: str, version: str, said: str) -> None:
    code, text = rollout(server, "--to", version, "--edge-port", "65000", model=model)
    assert code == 1
    assert text.startswith(f"error: {said}")
    assert "Traceback" not in text


def test_an_edge_before_another_server_is_said(server: Server, tmp_path: Path) -> None:
    need("haproxy")
    with edging(server.port + 7, tmp_path, {}) as edge:
        code, text = rollout(server, "--to", "2.0", "--edge-port", str(edge.port))
    assert code == 1
    assert f"is before the server on port {server.port + 7}" in text


def test_too_few_requests_are_no_proof_and_two_rollouts_exclude_each_other(server: Server, tmp_path: Path) -> None:
    """Without a request the version before stays, however long that lasts."""
    need("haproxy")
    lock = EdgeDir.base() / f"rollout-{server.port}-{MODEL}.lock"
    with edging(server, tmp_path, {}) as edge:
        place = ["--to", "2.0", "--edge-port", str(edge.port), "--hold", "1s"]
        command = [*MARSERVE, "rollout", MODEL, "--port", str(server.port), *place]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
            wait_for(lambda: is_held(lock))
            code, text = rollout(server, *place)
            assert (code, text) == (1, f"error: another rollout of {MODEL} is under way\n")
            output, _ = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "0 requests in" in output
    assert "too few to judge by" in output
