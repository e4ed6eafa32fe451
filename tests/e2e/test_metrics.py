"""The page of metrics of a real server: every request is counted once, by whichever worker, and stays counted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from handlers.metrics import WRITING
from marserve.rates import Samples, read_samples
from marserve.rundir import RunDir
from tests.e2e.archives import current_store, read_files, write_archive
from tests.e2e.server import MARSERVE, Server, processes_of, serving
from tests.paths import ROOT

MODEL = "drag_pattern"
GOOD = (ROOT / "export" / "specs" / "drag_pattern.json").read_bytes()


def scrape(server: Server) -> Samples:
    time.sleep(2 * WRITING)  # until then a worker has written what it noted
    reply = httpx.get(f"{server.metrics}/metrics", timeout=30)
    assert reply.status_code == 200
    families = [family.name for family in text_string_to_metric_families(reply.text)]
    assert len(families) == len(set(families))
    return read_samples(reply.text)


def total(samples: Samples, series: str, **labels: str) -> float:
    return sum(value for (name, own), value in samples.items() if name == series and labels.items() <= own)


def store_of_two_versions(folder: Path) -> None:
    files = read_files(current_store() / f"{MODEL}.mar")
    name = "MAR-INF/MANIFEST.json"
    for version in ("1.0", "2.0"):
        manifest = files[name].replace(b'"modelVersion": "', f'"modelVersion": "{version}", "was": "'.encode())
        write_archive(folder / f"{MODEL}-{version}.mar", {**files, name: manifest})


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    store_of_two_versions(folder)
    return folder


def test_every_request_is_counted_once(versions: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))  # of the caller's own: nothing must go there
    with serving("--model-store", str(versions)) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        def send(body: bytes, version: str, **headers: str) -> int:
            headers["content-type"] = "application/json"
            return client.post(f"/predictions/{MODEL}/{version}", content=body, headers=headers).status_code

        before = scrape(server)
        assert total(before, "marserve_workers", version="1.0") == 2
        with ThreadPoolExecutor(8) as pool:
            good = list(pool.map(lambda _: send(GOOD, "1.0"), range(40)))
            bad = list(pool.map(lambda _: send(b"{", "1.0"), range(10)))
        start = f"t={time.time() - 100:.3f}"
        assert [send(GOOD, "2.0", **{name: start}) for name in ("X-Request-Start", "x-request-start")] == [200, 200]
        assert (set(good), set(bad)) == ({200}, {400})
        after = scrape(server)

        def grew(series: str, **labels: str) -> float:
            return total(after, series, **labels) - total(before, series, **labels)

        first, second = {"model": MODEL, "version": "1.0"}, {"model": MODEL, "version": "2.0"}
        assert grew("marserve_replies_total", **first, code="200") == 40
        assert grew("marserve_replies_total", **first, code="400") == 10
        assert grew("marserve_replies_total", **second) == 2
        assert grew("marserve_request_seconds_count", **first) == 50
        assert grew("marserve_batch_size_sum", **first) == 50
        batches = grew("marserve_batch_size_count", **first)
        for stage in ("decode", "run", "encode"):
            assert grew("marserve_stage_seconds_count", **first, stage=stage) == batches
            assert grew("marserve_stage_seconds_sum", **first, stage=stage) > 0
        assert grew("marserve_stage_seconds_count", **first, stage="queue") == 0
        assert grew("marserve_stage_seconds_count", **second, stage="queue") == 2
        assert 200 <= grew("marserve_stage_seconds_sum", **second, stage="queue") < 400
        assert grew("ts_inference_requests_total", model_name=MODEL) == 52
        assert grew("ts_queue_latency_microseconds_total", model_name=MODEL) > 0
        assert grew("Requests4XX_total") == 10
        assert list(tmp_path.iterdir()) == []

        worker = next(int(path.stem.partition("_")[2]) for path in RunDir(server.port).metrics.glob("counter_*.db"))
        os.kill(worker, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while total(scrape(server), "marserve_workers") < 4 or Path(f"/proc/{worker}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert send(GOOD, "1.0") == 200
        again = scrape(server)
        assert total(again, "marserve_replies_total") == total(after, "marserve_replies_total") + 1
        folder = RunDir(server.port).metrics
        assert server.interrupt() == 0
        assert not folder.exists()
        assert processes_of(server.port) == []


def test_top_shows_the_models(server: Server) -> None:
    command = [*MARSERVE, "top", "--port", str(server.port), "--once", "--interval", "0.5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    models = [line.split()[0] for line in done.stdout.splitlines()]
    assert models[1:-1] == [
        "beverage",
        "captcha_challenge",
        "captcha_image",
        "digit",
        "drag_pattern",
        "face_mosaic",
        "image_embedding",
        "ticket_slice",
    ]


def test_nothing_but_the_page(server: Server) -> None:
    assert httpx.get(f"{server.metrics}/").status_code == 404
    assert httpx.post(f"{server.metrics}/metrics").status_code == 501
