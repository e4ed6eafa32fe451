"""Files as workers leave them, each written by a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.paths import ROOT

_WORKER = """
import sys
from handlers.metrics import Metrics
metrics = Metrics(sys.argv[1], sys.argv[2])
for _ in range(int(sys.argv[3])):
    metrics.observe({"decode": 0.001, "run": 0.002, "encode": 0.003}, [200, 200, 422], [None] * 3)
    metrics.write()
print("measured", flush=True)
sys.stdin.read()
"""


@contextmanager
def worker(folder: Path, model: str = "cat", version: str = "1.0", batches: int = 1) -> Iterator[int]:
    """One that has answered batches of two good requests and a bad one, and lives on; its process id."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", _WORKER, model, version, str(batches)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"measured\n"
            yield process.pid
        finally:
            process.kill()
