"""The same model over gRPC, with marserve's own client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx

from marserve.client import GrpcClient
from tests.e2e.server import MARSERVE, Server
from tests.paths import ROOT


def test_grpc_and_rest_give_the_same_answer(server: Server, rest: httpx.Client, photo: bytes) -> None:
    with GrpcClient(server.grpc) as client:
        answer = client.predict("captcha_image", photo)
    assert answer.error == ""
    assert answer.body == rest.post("/predictions/captcha_image", content=photo).json()


def test_an_items_error_is_an_error_though_torchserve_says_ok(server: Server) -> None:
    with GrpcClient(server.grpc) as client:
        answer = client.predict("captcha_image", b"garbage")
    assert answer.error.startswith("unsupported_type: ")


def test_json_goes_over_grpc(server: Server) -> None:
    with GrpcClient(server.grpc) as client:
        answer = client.predict("captcha_challenge", b'{"kind": "drag_drop", "count": 4}')
    assert len(answer.body["images"]) == 4


def test_an_unknown_model_is_told(server: Server) -> None:
    with GrpcClient(server.grpc) as client:
        assert "Model not found" in client.predict("nobody", b"x").error


def test_predict_prints_both_alike(server: Server, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"garbage")
    files = ["export/specs/captcha_image.jpg", str(tmp_path / "bad.jpg")]
    outputs = []
    for how in (["--url", server.url], ["--grpc", "--grpc-address", server.grpc]):
        command = [*MARSERVE, "predict", "captcha_image", *files, "--json", *how]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1  # one of the two failed
        outputs.append([json.loads(line) for line in done.stdout.splitlines()])
    assert outputs[0] == outputs[1]
    assert outputs[0][0]["label"] == "animal"
    assert outputs[0][1]["failed"].startswith("unsupported_type")
