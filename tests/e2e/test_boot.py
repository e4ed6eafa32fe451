"""Workers without PyTorch, and handlers that want it."""

from __future__ import annotations

import io
import json
import zipfile
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


def workers(server: Server) -> list[int]:
    return [pid for pid in processes_of(server.port) if b"model_service_worker" in _read(pid, "cmdline")]


def _read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def test_no_worker_has_loaded_pytorch(server: Server) -> None:
    pids = workers(server)
    assert len(pids) == 7  # 2 of every model, 1 of captcha_challenge
    for pid in pids:
        assert b"libonnxruntime" in _read(pid, "maps") or b"onnxruntime_pybind" in _read(pid, "maps")
        assert b"libtorch" not in _read(pid, "maps")


def test_a_handler_that_returns_tensors_still_works(tmp_path: Path) -> None:
    manifest = {
        "runtime": "python",
        "model": {"modelName": "tensors", "modelVersion": "1.0", "handler": "tensors.py"},
        "archiverVersion": "0.12.0",
    }
    with zipfile.ZipFile(tmp_path / "tensors.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("tensors.py", TORCH_HANDLER)
    with serving("--model-store", str(tmp_path)) as server:
        reply = httpx.put(f"{server.url}/predictions/tensors", content=b"x", timeout=60)
        assert torch.load(io.BytesIO(reply.content)).tolist() == [1, 2, 3]  # TorchServe sends tensors as torch.save
        assert any(b"libtorch" in _read(pid, "maps") for pid in workers(server))
