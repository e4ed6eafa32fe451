"""Overrides in force on a real server, and a whole tuning with a budget that allows for little."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from loadtest.bench.processes import free_port
from tests.e2e.archives import current_store, read_files, write_archive
from tests.e2e.server import MARSERVE, failing, serving
from tests.paths import ROOT
from tests.tools import need

EXAMPLE = ROOT / "export" / "specs" / "drag_pattern.json"
# A batch of 1 and a delay of 100 are what TorchServe's registration takes for "not given".
MINE = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "maxBatchDelay": 100}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    for name in ("drag_pattern.mar", "captcha_challenge.mar"):
        shutil.copy(current_store() / name, folder)
    return folder


def described(management: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{management}/models/{name}").json()[0]
    return found


def threads_of(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"^Threads:\s*(\d+)$", status, re.MULTILINE)
    assert found
    return int(found[1])


def test_overrides_reach_torchserve_and_the_workers(store: Path) -> None:
    path = store / "drag_pattern.overrides.yaml"
    path.write_text(yaml.safe_dump({**MINE, "handler": {"network": {"chunk": 3, "threads": 4}}}, sort_keys=False))
    answers, threads = [], []
    for arguments in ([], ["--no-overrides"]):
        with serving("--model-store", str(store), *arguments) as server:
            model = described(server.management, "drag_pattern")
            threads.append(threads_of(model["workers"][0]["pid"]))
            answers.append(httpx.post(f"{server.url}/predictions/drag_pattern", content=EXAMPLE.read_bytes()).json())
            other = described(server.management, "captcha_challenge")
            assert (other["minWorkers"], other["batchSize"], other["maxBatchDelay"]) == (1, 4, 1)
            assert httpx.get(f"{server.url}/ping").json() == {"status": "Healthy"}
            assert ({key: model[key] for key in MINE} == MINE) == (not arguments)
            assert len(model["workers"]) == (2 if arguments else 1)
            assert ("overridden by" in server.summary) == (not arguments)
            if not arguments:
                assert f"{path}: minWorkers 1 (shipped: 2), " in server.summary
                environment = Path(f"/proc/{model['workers'][0]['pid']}/environ").read_bytes()
                assert b'MARSERVE_OVERRIDES={"drag_pattern": {"chunk": 3, "threads": 4}}' in environment
    assert answers[0] == answers[1]
    assert threads[0] == threads[1] + 3


def test_a_mistake_stops_the_start_unless_overrides_are_left_out(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "drag_pattern.overrides.yaml").write_text("batchSize: 0\n")
    port = str(free_port())
    common = ["--model-store", str(store), "--models", "drag_pattern", "--port", port]
    code, error, _ = failing(*common, "--overrides", str(folder), "--detach")
    assert (code, error.count("\n")) == (1, 1)
    assert "batchSize must be a whole number from 1 to 10000, not 0" in error
    assert failing(*common, "--overrides", str(folder), "--no-overrides")[0] == 1
    shutil.move(folder / "drag_pattern.overrides.yaml", store)
    command = [*MARSERVE, "serve", *common, "--no-overrides", "--detach"]
    try:
        assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=90, check=False).returncode == 0
    finally:
        subprocess.run([*MARSERVE, "stop", "--port", port], cwd=ROOT, capture_output=True, timeout=60, check=True)


def test_a_model_that_does_not_load_is_told_with_overrides_too(store: Path) -> None:
    """TorchServe loads models another way then."""
    (store / "drag_pattern.overrides.yaml").write_text("batchSize: 8\n")
    files = read_files(store / "drag_pattern.mar")
    write_archive(store / "drag_pattern.mar", {**files, "model.onnx": files["model.onnx"][:1000]})
    code, error, seconds = failing("--model-store", str(store), "--port", str(free_port()), "--strict")
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith("error: drag_pattern does not load: onnxruntime cannot load model.onnx")
    assert seconds < 50


@pytest.fixture
def private() -> Iterator[Path]:
    """A runtime folder of one's own, whose path tells its processes; short, for the workers' sockets."""
    with tempfile.TemporaryDirectory(prefix="tune-") as folder:
        yield Path(folder)


def tuning(private: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [*MARSERVE, "tune", "drag_pattern", "--model-store", str(current_store()), *arguments]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(private)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def left_by(private: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                seen = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(private).encode() in seen:
                found.append(int(entry.name))
    return found


def test_a_tuning_finds_settings_and_serve_takes_them(private: Path, tmp_path: Path) -> None:
    need("wrk")
    samples, output = tmp_path / "samples", tmp_path / "output"
    samples.mkdir()
    output.mkdir()
    shutil.copy(EXAMPLE, samples / "one.json")
    (output / "drag_pattern.overrides.yaml").write_text("batchSize: 5\n")
    arguments = ["--slo-p99", "20s", "--budget", "30s", "--samples", str(samples), "--json"]
    process = tuning(private, *arguments, "--write", "--output", str(output))
    shown, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    result = json.loads(shown)
    winner, shipped = result["winner"], {"workers": 2, "batch": 16, "delay": 1, "threads": 1, "chunk": 32}
    assert result["shipped"] == shipped
    assert result["rounds"] >= 1
    assert result["finals"][0]["settings"] == shipped
    assert result["winner_point"]["p99_ms"] <= 20_000
    assert result["frontier"]
    written = (output / "drag_pattern.overrides.yaml").read_text()
    assert written.startswith("# `marserve tune drag_pattern --slo-p99 20s --budget 30s --write`\n# version ")
    assert "req/s at" in written
    content = yaml.safe_load(written) or {}
    assert content.get("minWorkers", 2) == content.get("maxWorkers", 2) == winner["workers"]
    assert content.get("batchSize", 16) == winner["batch"]
    assert content.get("handler", {}).get("network", {}).get("chunk", 32) == winner["chunk"]
    assert left_by(private) == []
    assert [path.suffix for path in (private / f"marserve-{os.getuid()}").iterdir()] == [".lock"]


def test_ctrl_c_stops_the_server_and_writes_nothing(private: Path, tmp_path: Path) -> None:
    need("wrk")
    process = tuning(private, "--slo-p99", "50ms", "--write", "--output", str(tmp_path))
    deadline = time.monotonic() + 60
    while not any("wrk" in Path("/proc", str(pid), "comm").read_text() for pid in children(process.pid)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "interrupted" in shown
    assert "Traceback" not in error
    assert left_by(private) == []
    assert list(tmp_path.iterdir()) == []


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_wrong_samples_are_told_at_once(private: Path, tmp_path: Path) -> None:
    need("wrk")
    (tmp_path / "a.json").write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "b.json").write_text("{}")
    process = tuning(private, "--slo-p99", "50ms", "--samples", str(tmp_path))
    shown, error = process.communicate(timeout=100)
    assert (process.returncode, shown, error.count("\n")) == (1, "", 1)
    assert error.startswith("error: request 2 of 2 is answered with 422: ")
    assert left_by(private) == []
