"""The README's promise: in a fresh clone `make serve` sets everything up, without PyTorch, and answers a photograph."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from loadtest.bench.processes import free_port
from tests.e2e.server import processes_of
from tests.paths import ROOT
from tests.tools import need


def test_make_serve_in_a_fresh_clone(tmp_path: Path) -> None:
    need("curl")
    need("git")
    clone = tmp_path / "clone"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in set(files.split("\0")) - {""}:
        if (ROOT / name).exists():  # as a commit of the present state would have it
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, clone / name)
    port = free_port()
    command = ["make", "serve", "GPU=0", f"PYTHON={sys.executable}", f"ARGS=--port {port}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("VIRTUAL_ENV", "MAKE"))}
    process = subprocess.Popen(
        command,
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        curls = []
        for line in process.stdout:
            if line.strip().startswith("curl "):
                curls.append(line.strip())
            if line.startswith("logs"):
                break
        classify = next(curl for curl in curls if "captcha_image" in curl)
        answer = subprocess.run(shlex.split(classify), capture_output=True, text=True, check=True).stdout
        assert json.loads(answer)["label"] == "animal"
        python = clone / ".venv" / "bin" / "python"
        finds = "import importlib.util as u; print([n for n in ('torch', 'torchvision', 'sklearn') if u.find_spec(n)])"
        found = subprocess.run([python, "-c", finds], capture_output=True, text=True, check=True).stdout
        assert found.strip() == "[]"
    finally:
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches make and marserve alike
        _, errors = process.communicate(timeout=60)
    assert processes_of(port) == [], errors
