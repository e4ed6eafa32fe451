"""An edge's life: reloads and ends that cost nobody a request, servers that come and go, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml

from loadtest.bench.processes import free_port
from marserve.edge.process import EdgeDir
from marserve.rates import read_samples
from tests.e2e.edge import PUPIL, PUPIL_CONFIG, edges_processes, edging, marserve
from tests.e2e.server import MARSERVE, Server, java_of, processes_of
from tests.e2e.test_boot import write_bare
from tests.e2e.test_reliability import wait_for
from tests.paths import ROOT
from tests.tools import need

ASK = "/predictions/pupil"


def test_reloads_under_load_drop_nothing(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {}) as edge:
        stop = threading.Event()

        def ask(keep_alive: bool) -> Counter[int]:
            statuses: Counter[int] = Counter()
            with httpx.Client(base_url=edge.url, timeout=30) as client:
                while not stop.is_set():
                    headers = {} if keep_alive else {"connection": "close"}
                    statuses[client.post(ASK, content=b"sleep 0.02", headers=headers).status_code] += 1
            return statuses

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, bool(number % 2)) for number in range(8)]
            try:
                for size in (2**20, 2**21, 2**22):
                    edge.settings.write_text(yaml.safe_dump({"limits": {"body_bytes": size}}))
                    done = edge.reload()
                    assert (done.returncode, done.stderr) == (0, "")
                    assert httpx.post(f"{edge.url}{ASK}", content=bytes(size + 1)).status_code == 413
            finally:
                stop.set()
            for future in asking:
                statuses = future.result()
                assert set(statuses) == {200}
                assert statuses[200] > 5


def test_settings_that_are_wrong_leave_it_as_it_is(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {}) as edge:
        (tmp_path / "broken.pem").write_text("nothing")
        wrong = {
            "unknown keys: size": {"limits": {"size": 1}},
            "broken.pem": {"tls": {"certificate": "broken.pem"}},
        }
        before = edges_processes(edge.port)
        for reason, settings in wrong.items():
            edge.settings.write_text(yaml.safe_dump(settings))
            done = edge.reload()
            assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
            assert reason in done.stderr
            checked = marserve("edge", "check", "--config", str(edge.settings))
            assert (checked.returncode, len(checked.stderr.splitlines())) == (1, 1)
            assert reason in checked.stderr
        assert edges_processes(edge.port) == before
        with socket.socket() as taken:  # which HAProxy finds out only when it tries
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            shifted = taken.getsockname()[1] - (edge.port - 8090)
            edge.settings.write_text(yaml.safe_dump({"listen": {"metrics": f"127.0.0.1:{shifted}"}}))
            done = edge.reload()
            assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
            assert "HAProxy keeps the settings it has: Binding" in done.stderr
        assert httpx.post(f"{edge.url}{ASK}", content=b"x").status_code == 200


def test_it_ends_what_it_has_begun(pupil: Server, tmp_path: Path) -> None:
    model = {"in_flight": 1, "queue": 10}
    with edging(pupil, tmp_path, {"model": model}) as edge, ThreadPoolExecutor() as pool:
        with httpx.Client(base_url=edge.url, timeout=30) as idle:
            assert idle.get("/health").status_code == 200  # a connection that stays open
            asked = [pool.submit(httpx.post, f"{edge.url}{ASK}", content=b"sleep 0.4", timeout=30) for _ in range(4)]
            wait_for(lambda: 'haproxy_backend_current_queue{proxy="rest.pupil"} 3' in httpx.get(edge.metrics).text)
            edge.process.send_signal(signal.SIGTERM)
            assert [one.result().status_code for one in asked] == [200] * 4
            assert edge.process.wait(10) == 0
        assert edges_processes(edge.port) == []


def test_haproxy_ends_though_marserve_is_killed(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {}) as edge:
        assert len(edges_processes(edge.port)) >= 2  # master and worker
        edge.process.kill()
        edge.process.wait()
        wait_for(lambda: edges_processes(edge.port) == [], 15)


def test_a_server_that_dies_and_comes_back(tmp_path: Path) -> None:
    write_bare(tmp_path, "pupil", PUPIL, PUPIL_CONFIG)
    port = free_port()
    command = ["--model-store", str(tmp_path), "--port", str(port)]
    with edging(port, tmp_path, {"model": {"reply_seconds": 10}}) as edge, ThreadPoolExecutor() as pool:
        for _ in range(2):
            assert marserve("serve", "--detach", *command).returncode == 0
            try:
                wait_for(lambda: httpx.get(f"{edge.url}/health").status_code == 200)
                asked = pool.submit(httpx.post, f"{edge.url}{ASK}", content=b"sleep 1", timeout=30)
                time.sleep(0.5)
                os.kill(java_of(port), signal.SIGKILL)
                lost = asked.result()
                assert (lost.status_code, lost.json()["error"]["code"]) == (502, "no_reply")
                wait_for(lambda: httpx.get(f"{edge.url}/health").status_code == 503)
                wait_for(lambda: httpx.get(f"{edge.url}/health").status_code == 200)
                assert httpx.post(f"{edge.url}{ASK}", content=b"x", timeout=30).status_code == 200
            finally:
                marserve("stop", "--port", str(port))
            late = httpx.post(f"{edge.url}{ASK}", content=b"x", timeout=30)
            assert (late.status_code, late.json()["error"]["code"]) == (503, "unavailable")


def test_two_on_one_port(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {}) as edge:
        again = marserve("edge", "start", "--config", str(edge.settings), "--port", str(edge.port))
        assert (again.returncode, len(again.stderr.splitlines())) == (1, 1)
        assert f"a marserve edge is running on port {edge.port} already: `marserve edge stop --port" in again.stderr
        taken = marserve("edge", "start", "--config", str(edge.settings), "--port", str(edge.port + 2))
        assert "cannot listen on" in taken.stderr


def test_detach_and_stop(pupil: Server, tmp_path: Path) -> None:
    (tmp_path / "edge.yaml").write_text("access_log: requests.log\n")
    port = str(free_port())
    options = ["--config", str(tmp_path / "edge.yaml"), "--port", port, "--server-port", str(pupil.port)]
    started = marserve("edge", "start", "--detach", *options)
    try:
        assert started.returncode == 0, started.stderr
        assert f"`marserve edge stop --port {port}` stops it" in started.stdout
        assert httpx.post(f"http://127.0.0.1:{port}{ASK}", content=b"x").status_code == 200
    finally:
        stopped = marserve("edge", "stop", "--port", port)
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert edges_processes(int(port)) == []
    assert json.loads((tmp_path / "requests.log").read_text())["status"] == 200
    for verb in ("stop", "reload"):
        nothing = marserve("edge", verb, "--port", port)
        assert (nothing.returncode, nothing.stderr) == (
            1,
            f"error: no marserve edge of yours is running on port {port}\n",
        )


def test_server_and_edge_together(tmp_path: Path, challenge: bytes) -> None:
    """`make serve-edge`: both come up, and at the end what was asked is answered."""
    need("haproxy")
    (tmp_path / "edge.yaml").write_text("access_log: '-'\n")
    port, edge_port = free_port(), free_port()
    command = [*MARSERVE, "serve", "--port", str(port), "--models", "captcha_challenge"]
    command += ["--edge", str(tmp_path / "edge.yaml"), "--edge-port", str(edge_port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("access log"):
                    break
            assert "the edge is ready" in "".join(lines)
            assert "captcha_challenge, all other models share one" in "".join(lines)
            url = f"http://127.0.0.1:{edge_port}/predictions/captcha_challenge"
            headers = {"content-type": "application/json"}
            with ThreadPoolExecutor() as pool:
                asked = [pool.submit(httpx.post, url, content=challenge, headers=headers, timeout=30) for _ in range(8)]
                wait_for(lambda: _begun(edge_port) == 8)
                process.send_signal(signal.SIGINT)
                statuses = {one.result().status_code for one in asked}
            assert statuses == {200}
            assert process.wait(60) == 0
        finally:
            process.kill()
        rest = process.stdout.read()
    assert rest.index("the edge is stopped") < rest.index("\nstopped")
    assert [json.loads(line)["status"] for line in rest.splitlines() if line.startswith("{")] == [200] * 8
    copy = EdgeDir(edge_port).logs / "access.log"  # which a rollout would have read
    assert [json.loads(line)["status"] for line in copy.read_text().splitlines()] == [200] * 8
    assert processes_of(port) == []
    assert edges_processes(edge_port) == []


def _begun(edge_port: int) -> float:
    """Requests over REST whose headers the edge has read."""
    samples = read_samples(httpx.get(f"http://127.0.0.1:{edge_port + 2}/metrics").text)
    name = "haproxy_frontend_http_requests_total"
    return sum(value for (found, labels), value in samples.items() if found == name and ("proxy", "rest") in labels)


def test_a_server_whose_edge_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "edge.yaml").write_text("limits: {size: 1}\n")
    port = free_port()
    done = marserve(
        "serve", "--port", str(port), "--models", "captcha_challenge", "--edge", str(tmp_path / "edge.yaml")
    )
    assert done.returncode == 1
    assert "limits has unknown keys: size" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert processes_of(port) == []


@pytest.fixture
def challenge() -> bytes:
    return (ROOT / "tests" / "e2e" / "challenge.json").read_bytes()
