"""Workers without PyTorch, and handlers that want it."""

from __future__ import annotations

import io
import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import torch

from tests.e2e.server import Server, processes_of, serving

TORCH_HANDLER = """
import torch


class TorchHandler:
    def initialize(self, context):
        self.initialized = True

    def handle(self, rows, context):
        return [torch.arange(3) + len(rows)]
"""


SLOW_HANDLER = """
import time


class SlowHandler:
    def initialize(self, context):
        self.initialized = True

    def handle(self, rows, context):
        time.sleep(1)
        return [str(len(rows))] * len(rows)
"""


def write_bare(folder: Path, name: str, handler: str, config: str = "", version: str = "1.0") -> None:
    """An archive that is nothing but a handler."""
    model = {"modelName": name, "modelVersion": version, "handler": f"{name}.py"}
    model |= {"configFile": "model-config.yaml"} if config else {}
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(folder / f"{name}-{version}.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr(f"{name}.py", handler)
        archive.writestr("model-config.yaml", config)


def workers(server: Server) -> list[int]:
    return [pid for pid in processes_of(server.port) if b"model_service_worker" in _read(pid, "cmdline")]


def _read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def test_no_worker_has_loaded_pytorch(server: Server) -> None:
    pids = workers(server)
    assert len(pids) == 13  # 2 of every model, 1 of captcha_challenge, face_mosaic and image_embedding
    for pid in pids:
        assert b"libonnxruntime" in _read(pid, "maps") or b"onnxruntime_pybind" in _read(pid, "maps")
        assert b"libtorch" not in _read(pid, "maps")


def test_a_handler_that_returns_tensors_still_works(tmp_path: Path) -> None:
    write_bare(tmp_path, "tensors", TORCH_HANDLER)
    with serving("--model-store", str(tmp_path)) as server:
        reply = httpx.put(f"{server.url}/predictions/tensors", content=b"x", timeout=60)
        assert torch.load(io.BytesIO(reply.content)).tolist() == [1, 2, 3]  # TorchServe sends tensors as torch.save
        assert any(b"libtorch" in _read(pid, "maps") for pid in workers(server))


def test_a_batch_is_what_came_meanwhile(tmp_path: Path) -> None:
    """With the least delay nothing is waited for, and what waits is still taken together, up to the batch size."""
    write_bare(tmp_path, "slow", SLOW_HANDLER, "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 4\nmaxBatchDelay: 1\n")
    with serving("--model-store", str(tmp_path)) as server, ThreadPoolExecutor() as pool:

        def ask() -> str:
            return httpx.put(f"{server.url}/predictions/slow", content=b"x", timeout=60).text

        first = pool.submit(ask)
        time.sleep(0.5)  # it is in the worker now, and five come meanwhile
        others = [pool.submit(ask) for _ in range(5)]
        assert first.result() == "1"
        assert sorted(other.result() for other in others) == ["1", "4", "4", "4", "4"]
