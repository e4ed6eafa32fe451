"""A server that was killed comes back as it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.archives import current_store, read_files, with_version, write_archive
from tests.e2e.server import MARSERVE, Server, serving
from tests.paths import ROOT


@contextmanager
def again(port: int, store: Path, *arguments: str) -> Iterator[str]:
    """`marserve serve` on that port; the line that says what was restored, or nothing."""
    command = [*MARSERVE, "serve", "--detach", "--port", str(port), "--model-store", str(store), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    try:
        lines = [line for line in done.stdout.splitlines() if line.startswith("restored")]
        assert len(lines) <= 1
        yield "".join(lines)
    finally:
        stop = [*MARSERVE, "stop", "--port", str(port)]
        subprocess.run(stop, cwd=ROOT, capture_output=True, check=True, timeout=60)


def served(port: int) -> dict[str, tuple[bool, int, int]]:
    """Whether it is the default, its workers and its batch size, by model and version."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port + 1}") as management:
        found = {}
        for model in management.get("/models").json()["models"]:
            for one in management.get(f"/models/{model['modelName']}/all").json():
                default = one["modelUrl"] == model["modelUrl"]
                ready = sum(worker["status"] == "READY" for worker in one["workers"])
                found[f"{one['modelName']}/{one['modelVersion']}"] = (default, ready, one["batchSize"])
        return found


def manage(server: Server, method: str, path: str, **parameters: Any) -> None:
    reply = httpx.request(method, f"{server.management}/models{path}", params=parameters, timeout=60)
    assert reply.status_code == 200, reply.text


def test_a_killed_server_comes_back_as_it_was(tmp_path: Path) -> None:
    for name in ("captcha_challenge", "drag_pattern", "ticket_slice"):
        shutil.copy(current_store() / f"{name}.mar", tmp_path)
    with serving("--model-store", str(tmp_path)) as server:
        assert "restored" not in server.summary
        write_archive(tmp_path / "second.mar", with_version(read_files(tmp_path / "ticket_slice.mar"), "2.0"))
        manage(server, "POST", "", url="second.mar", batch_size=3)
        manage(server, "PUT", "/ticket_slice/2.0/set-default")
        manage(server, "PUT", "/ticket_slice/2.0", min_worker=1, max_worker=1, synchronous="true")
        manage(server, "DELETE", "/drag_pattern")
        before = served(server.port)
        assert before["ticket_slice/2.0"] == (True, 1, 3)
        assert [model.split("/")[0] for model in before].count("ticket_slice") == 2
        path = Path(os.environ["XDG_STATE_HOME"], "marserve", f"{server.port}.json")
        looks = 3000
        while '"2.0"' not in path.read_text() or "drag_pattern.mar" in str(json.loads(path.read_text())["versions"]):
            looks -= 1
            assert looks
            httpx.get(f"{server.metrics}/health")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        with again(server.port, tmp_path) as restored:  # at once: it waits for what the killed one has left
            assert served(server.port) == before
            assert "ticket_slice 2.0 as the default; without drag_pattern.mar" in restored
        (tmp_path / "second.mar").unlink()
        with again(server.port, tmp_path) as restored:  # also after an end in good order
            assert "without second.mar, which is gone" in restored
            assert set(served(server.port)) == set(before) - {"ticket_slice/2.0"}
        with again(server.port, tmp_path, "--fresh") as restored:
            assert restored == ""
            assert {model.split("/")[0] for model in served(server.port)} >= {"drag_pattern", "ticket_slice"}
        with again(server.port, tmp_path) as restored:
            assert restored == ""
