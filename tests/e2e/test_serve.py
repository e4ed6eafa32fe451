"""`marserve serve` and `stop` from the outside: what comes up, what goes down, and what is said when it cannot."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from loadtest.bench.processes import free_port
from marserve.rundir import RunDir
from tests.e2e.archives import current_store, read_files, with_handler, write_archive
from tests.e2e.server import MARSERVE, failing, processes_of, serving
from tests.paths import ROOT
from tests.tools import need


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*MARSERVE, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)


def test_the_printed_commands_work_as_they_are_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    need("curl")
    with serving() as server:
        curls = [line.strip() for line in server.summary.splitlines() if line.strip().startswith("curl ")]
        assert len(curls) == len(list(current_store().glob("*.mar")))
        for curl in curls:
            done = subprocess.run(shlex.split(curl), cwd=tmp_path, capture_output=True, text=True, check=True)
            shown = done.stdout or (tmp_path / shlex.split(curl)[-1]).read_bytes()[:3].hex()
            keys = ('"label"', '"images"', '"anomaly"', '"embedding"', '"digit"', '"predicted_class"', "ffd8ff")
            assert any(key in shown for key in keys)
        assert httpx.get(f"{server.management}/models").json()["models"]
        assert len(processes_of(server.port)) >= 4  # Java, three workers
        logs = RunDir(server.port).logs
        assert logs.exists()
        assert server.interrupt() == 0
        deadline = time.monotonic() + 3
        while (left := processes_of(server.port)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []
        assert f"logs        {logs}" in server.summary
        assert not logs.exists()


def test_two_servers_side_by_side(photo: bytes) -> None:
    with serving("--models", "captcha_image") as first, serving("--models", "captcha_image") as second:
        answers = [httpx.put(f"{s.url}/predictions/captcha_image", content=photo).json() for s in (first, second)]
        assert answers[0] == answers[1]
        assert first.interrupt() == 0
        assert httpx.get(f"{second.url}/ping").json() == {"status": "Healthy"}


def test_every_port_is_on_loopback_only() -> None:
    with serving("--models", "captcha_challenge") as server:
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        open_ports = {int(f[1].split(":")[1], 16): f[1].split(":")[0] for f in listening if f[3] == "0A"}
        ports = [server.port + shift for shift in (0, 1, 2, -1010, -1009)]
        listening6 = Path("/proc/net/tcp6").read_text().splitlines()[1:]
        for line in listening6:
            field = line.split()
            if field[3] == "0A":
                open_ports.setdefault(int(field[1].split(":")[1], 16), field[1].split(":")[0])
        loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
        assert {open_ports[port] for port in ports} <= loopback


def test_detach_and_stop() -> None:
    port = str(free_port())
    started = run("serve", "--detach", "--port", port, "--models", "captcha_challenge")
    assert started.returncode == 0, started.stderr
    assert f"marserve stop --port {port}" in started.stdout
    try:
        assert httpx.get(f"http://127.0.0.1:{port}/ping").json() == {"status": "Healthy"}
        again = run("serve", "--detach", "--port", port)
        assert again.returncode == 1
        assert "already" in again.stderr
    finally:
        stopped = run("stop", "--port", port)
    assert stopped.returncode == 0, stopped.stderr
    assert processes_of(int(port)) == []
    nothing = run("stop", "--port", port)
    assert nothing.returncode == 1
    assert nothing.stderr == f"error: no marserve of yours is running on port {port}\n"


def test_sigterm_while_starting_leaves_nothing() -> None:
    need("curl")
    port = free_port()
    command = [*MARSERVE, "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 20
        while len(processes_of(port)) < 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)  # an impatient user
        assert process.wait(30) == 0
    assert processes_of(port) == []


def test_signals_that_come_together_stop_it_once() -> None:
    with serving("--models", "captcha_challenge") as server:
        os.kill(server.process.pid, signal.SIGSTOP)  # so that all of them are pending at the same moment
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(server.process.pid, number)
        os.kill(server.process.pid, signal.SIGCONT)
        assert server.process.wait(30) == 0
        assert processes_of(server.port) == []


def test_what_it_started_ends_though_marserve_is_killed() -> None:
    with serving("--models", "captcha_challenge") as server:
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 15
        while processes_of(server.port) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_of(server.port) == []


def test_a_proxy_in_the_environment_is_not_asked_for_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving("--models", "captcha_challenge") as server:
        for how in (["--url", server.url], ["--grpc", "--grpc-address", server.grpc]):
            asked = run("predict", "captcha_challenge", str(ROOT / "tests" / "e2e" / "challenge.json"), *how)
            assert asked.returncode == 0, asked.stderr


def test_two_versions_have_their_own_commands(tmp_path: Path) -> None:
    files = read_files(current_store() / "captcha_challenge.mar")
    for version in ("1.0", "2.0"):
        manifest = files["MAR-INF/MANIFEST.json"].replace(
            b'"modelVersion": "1.0"', f'"modelVersion": "{version}"'.encode()
        )
        write_archive(tmp_path / f"challenge-{version}.mar", {**files, "MAR-INF/MANIFEST.json": manifest})
    with serving("--model-store", str(tmp_path)) as server:
        for version in ("1.0", "2.0"):
            assert f"/predictions/captcha_challenge/{version} " in server.summary


def test_a_taken_port_is_named() -> None:
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 1))
        other.listen()
        code, error, _ = failing("--port", str(port))
    assert code == 1
    assert error.startswith(f"error: cannot listen on 127.0.0.1:{port + 1} ")
    assert error.count("\n") == 1


def damaged_network(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, "model.onnx": files["model.onnx"][:1000]}


def wrong_shape(files: dict[str, bytes]) -> dict[str, bytes]:
    return with_handler(files, network={"file": "model.onnx", "input_shape": [32, 32, 3]})


def one_label(files: dict[str, bytes]) -> dict[str, bytes]:
    return with_handler(files, labels=["animal"])


def three_labels(files: dict[str, bytes]) -> dict[str, bytes]:
    return with_handler(files, labels=["animal", "object", "plant"])


def unknown_task(files: dict[str, bytes]) -> dict[str, bytes]:
    return with_handler(files, task="divination")


def no_gpu(files: dict[str, bytes]) -> dict[str, bytes]:
    return with_handler(files, network={"file": "model.onnx", "input_shape": [64, 64, 3], "provider": "cuda"})


def bug_in_handler(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, "entry.py": b"import no_such_module\n"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damaged_network, "onnxruntime cannot load model.onnx"),
        (wrong_shape, "its spec says"),
        (one_label, "at least two"),
        (three_labels, "cannot read what model.onnx puts out"),
        (unknown_task, "handler.task must be one of"),
        (no_gpu, "install the GPU environment"),
        (bug_in_handler, "no_such_module"),
    ],
)
def test_a_model_that_does_not_load_is_one_line_and_no_hanging(change: object, said: str, tmp_path: Path) -> None:
    assert callable(change)
    write_archive(tmp_path / "captcha_image.mar", change(read_files(current_store() / "captcha_image.mar")))
    port = free_port()
    code, error, seconds = failing("--model-store", str(tmp_path), "--port", str(port))
    assert code == 1
    assert error.startswith("error: captcha_image does not load: ")
    assert said in error
    assert error.count("\n") == 1
    assert seconds < 30
    assert processes_of(port) == []


def test_a_cut_archive_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "captcha_image.mar").write_bytes((current_store() / "captcha_image.mar").read_bytes()[:-1000])
    code, error, seconds = failing("--model-store", str(tmp_path))
    assert code == 1
    assert "is not a readable archive" in error
    assert error.count("\n") == 1
    assert seconds < 10


def test_another_pool_replaces_the_shipped_one(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    example = ROOT / "export" / "specs" / "captcha_image.jpg"
    entries = [f'{{"file": "{i}.jpg", "group": "{group}"}}' for i, group in enumerate(["cat"] * 3 + ["dog"] * 3)]
    for index in range(6):
        shutil.copy(example, pool / f"{index}.jpg")
    (pool / "pool.json").write_text(f'{{"images": [{", ".join(entries)}]}}')
    with serving("--pool", str(pool)) as server, httpx.Client(base_url=server.url, timeout=30) as rest:
        challenge = rest.post("/predictions/captcha_challenge", json={"kind": "drag_drop", "count": 4}).json()
        assert challenge["pool"] == {"size": 6, "groups": {"cat": 3, "dog": 3}}
        assert rest.post("/predictions/captcha_image", json={"random": True}).json()["image"]["group"] in ("cat", "dog")


def test_a_pool_that_is_none_is_told(tmp_path: Path) -> None:
    code, error, _ = failing("--pool", str(tmp_path))
    assert code == 1
    assert "it has no pool.json" in error
