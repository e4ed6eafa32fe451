"""Whole runs of the command with a real Locust, against stand-in servers."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.loadtest.replies import CLASSIFIED, challenge, encoded
from tests.loadtest.standin import grpc_server, rest_server, write_archive

ROOT = Path(__file__).parents[2]
REPLIES = {"photos": encoded(CLASSIFIED), "challenges": encoded(challenge(*["animal", "object"] * 2))}


def command(folder: Path, *arguments: str) -> list[str]:
    store = ["--model-store", str(folder), "--output", str(folder / "reports" / "out")]
    return [sys.executable, "-m", "loadtest", *arguments, "--users", "2", *store]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def totals(folder: Path) -> dict[str, tuple[int, int]]:
    """Requests and failures by name, from Locust's CSV file."""
    with (folder / "reports" / "out" / "run_stats.csv").open() as file:
        return {row["Name"]: (int(row["Request Count"]), int(row["Failure Count"])) for row in csv.DictReader(file)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_archive(tmp_path, "photos", "image_classification", {"file": "photo"}, photo=b"pixels")
    write_archive(tmp_path, "challenges", "random_images", {"json": {"count": 4}})
    return tmp_path


def test_two_models_over_rest_within_their_limits(store: Path) -> None:
    with rest_server(lambda model: (200, REPLIES[model])) as url:
        done = run(store, "photos", "challenges", "--host", url, "--duration", "3", "--max-p99", "20000")
    assert (done.returncode, done.stderr) == (0, "")
    assert "<html" in (store / "reports" / "out" / "report.html").read_text()[:1000]
    counted = totals(store)
    for name in REPLIES:
        assert counted[name][0] > 0
        assert counted[name][1] == 0
        # Every request is in the CSV file too, those of the last second among them.
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1].replace(",", "") == str(counted[name][0])


def test_wrong_bodies_with_a_good_status_are_failures(store: Path) -> None:
    wrong = encoded({**CLASSIFIED, "confidence": 0.5})

    def slowly(_: str) -> tuple[int, bytes]:
        time.sleep(0.005)  # a time that rounds to 0 ms would be within the limit of 0
        return 200, wrong

    with rest_server(slowly) as url:
        done = run(store, "photos", "--host", url, "--duration", "1", "--max-error-rate", "0.5", "--max-p99", "0")
    assert done.returncode == 1
    requests, failures = totals(store)["photos"]
    assert requests == failures > 0
    assert "photos: 'confidence' is not the largest probability" in done.stdout
    first, second = done.stderr.splitlines()
    assert first.startswith("over the limit: photos: p99 is ")
    assert second.startswith("over the limit: photos: error rate is 1 ")


def test_errors_over_grpc_are_failures_though_they_come_as_ok(store: Path) -> None:
    error = encoded({"error": {"code": "undecodable", "message": "no image"}})
    replies = {"photos": REPLIES["photos"], "challenges": error}
    with grpc_server(lambda model: (400, replies[model])) as address:
        done = run(store, "photos", "challenges", "--grpc", address, "--duration", "2")
    assert done.returncode == 1
    counted = totals(store)
    assert counted["photos"][0] > 0 == counted["photos"][1]
    assert counted["challenges"][0] == counted["challenges"][1] > 0
    assert "challenges: undecodable: no image" in done.stdout
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_an_interrupted_run_leaves_no_locust_behind(store: Path, number: signal.Signals, code: int) -> None:
    with (
        rest_server(lambda model: (200, REPLIES[model])) as url,
        subprocess.Popen(
            command(store, "photos", "--host", url), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        log = store / "reports" / "out" / "locust.log"
        deadline = time.monotonic() + 20
        while not (log.exists() and "All users spawned" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert len(children) == 1
    assert not Path(f"/proc/{children[0]}").exists()
