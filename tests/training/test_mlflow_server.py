"""`make mlflow`: its page in a browser, and a training that records on the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.bench.processes import free_port
from tests.browser import page
from tests.paths import ROOT
from tests.training.photos import write_photos

TINY = ["--input_size=32", "--batch_size=8", "--epochs=2", "--workers=0", "--validation_share=0.25"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    options = f"--backend-store-uri sqlite:///{tmp_path}/mlflow.db --artifacts-destination {tmp_path}/artifacts"
    process = subprocess.Popen(
        ["make", "--no-print-directory", "mlflow", f"MLFLOW_PORT={port}", f"ARGS={options}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health", process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 120
    while True:
        try:
            direct.open(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "make mlflow ended"
            assert time.monotonic() < deadline, "make mlflow does not answer"
            time.sleep(0.5)


def test_a_training_on_the_server_and_its_page(server: str, tmp_path: Path) -> None:
    data_dir = write_photos(tmp_path / "images")
    command = [sys.executable, "training/train_efficientnet.py", f"--data_dir={data_dir}"]
    command += [f"--output_dir={tmp_path / 'first_model'}", "--experiment=pages", *TINY]
    environment = os.environ | {"MLFLOW_TRACKING_URI": server, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "MLflow did not take" not in done.stderr
    with page(1400, 900) as (opened, _):
        opened.goto(f"{server}/#/experiments/1/runs?workflowType=machine_learning")
        opened.get_by_text("first_model").first.wait_for(timeout=60_000)
