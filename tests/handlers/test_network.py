"""The session: refuses a network that is not the one its spec describes, and keeps the order of a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from handlers.errors import SpecError
from handlers.network import Network
from handlers.spec import NetworkSpec
from tests.handlers.networks import SIDE, write_classifier

SPEC = NetworkSpec("model.onnx", (SIDE, SIDE, 3), chunk=4)


def coloured(channel: int) -> np.ndarray:
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[..., channel] = 255
    return pixels


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    write_classifier(tmp_path / "model.onnx")
    network = Network(tmp_path, SPEC)
    assert network.provider == "CPUExecutionProvider"
    colours = [2, 0, 1, 1, 0, 2, 2]
    rows = network.run([coloured(channel) for channel in colours])
    assert [int(row["probabilities"].argmax()) for row in rows] == colours
    assert all(row["probabilities"].shape == (3,) for row in rows)
    assert all(abs(row["probabilities"].sum() - 1) < 1e-5 for row in rows)


@pytest.mark.parametrize(
    ("written", "changed", "message"),
    [
        ({"input_type": TensorProto.FLOAT}, {}, r"takes pixels: tensor\(float\).*its spec says tensor\(uint8\)"),
        ({}, {"input_type": "float32"}, r"takes pixels: tensor\(uint8\).*its spec says tensor\(float\)"),
        ({}, {"input_type": "float16"}, "input_type must be one of uint8, float32, int64"),
        ({"shape": ("batch", 9, SIDE, 3)}, {}, "its spec says"),
        ({}, {"input_shape": (SIDE, SIDE)}, "its spec says"),
        ({}, {"input_shape": (SIDE, SIDE, 4)}, "its spec says"),
        ({"shape": ("batch", "height", SIDE, 3)}, {}, "its spec says"),
        ({"shape": (1, SIDE, SIDE, 3)}, {}, "batch axis is fixed to 1; export it as dynamic"),
        ({"output": "scores"}, {}, "no output named probabilities"),
        ({}, {"outputs": ("probabilities", "embedding")}, "no output named embedding"),
    ],
)
def test_another_network_than_the_spec_says(
    tmp_path: Path, written: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    write_classifier(tmp_path / "model.onnx", **written)
    with pytest.raises(SpecError, match=message):
        Network(tmp_path, replace(SPEC, **changed))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"lacks model\.onnx"):
        Network(tmp_path, SPEC)
    with pytest.raises(SpecError, match="lacks"):
        Network(tmp_path, replace(SPEC, file=""))


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_damaged_file(tmp_path: Path, share: float) -> None:
    path = write_classifier(tmp_path / "model.onnx")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))] or b"not a network")
    with pytest.raises(SpecError, match=r"cannot load model\.onnx"):
        Network(tmp_path, SPEC)


def test_a_network_that_cannot_run_is_found_at_load(tmp_path: Path) -> None:
    """Its signature is right and it takes one image, but not two."""
    write_classifier(tmp_path / "model.onnx", at_most_one=True)
    Network(tmp_path, replace(SPEC, chunk=1))
    with pytest.raises(SpecError, match=r"model\.onnx fails on 4 items"):
        Network(tmp_path, SPEC)


def test_cuda_where_there_is_none(tmp_path: Path) -> None:
    write_classifier(tmp_path / "model.onnx")
    assert "CUDAExecutionProvider" not in onnxruntime.get_available_providers()  # the locked one is for CPUs
    with pytest.raises(SpecError, match="has no CUDA"):
        Network(tmp_path, replace(SPEC, provider="cuda"), gpu_id=0)
    for provider in ("auto", "cpu"):
        assert Network(tmp_path, replace(SPEC, provider=provider), gpu_id=0).provider == "CPUExecutionProvider"
