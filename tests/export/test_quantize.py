"""8-bit networks: what becomes 8-bit, what stays in float, and that they answer much as before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from export.errors import ExportError
from export.quantize import Method, quantize
from tests.export.models import SIDE, flat, tinted


def pictures(count: int, seed: int) -> NDArray[np.uint8]:
    """(count, SIDE, SIDE, 3)"""
    return np.stack([tinted(1000 * seed + number, number % 2 == 0) for number in range(count)])


def run(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = ort.InferenceSession(path).run(None, {"pixels": pixels})[0]
    return probabilities


def inputs_of(network: onnx.ModelProto, kind: str) -> Iterator[tuple[onnx.NodeProto, list[str]]]:
    """Every node of a kind, with the kinds of the nodes that feed it."""
    makers = {name: node.op_type for node in network.graph.node for name in node.output}
    return ((n, [makers.get(name, "") for name in n.input]) for n in network.graph.node if n.op_type == kind)


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_the_answers_stay_near(method: Method, efficient_onnx: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    quantize(method, efficient_onnx, target, pictures(50, seed=1) if method == "static" else ())
    tested = pictures(100, seed=2)
    before, after = run(efficient_onnx, tested), run(target, tested)
    assert np.abs(after - before).mean() < 0.05
    assert (after.argmax(1) == before.argmax(1)).mean() > 0.9
    assert not np.array_equal(after, before)
    assert np.allclose(after.sum(axis=1), 1, atol=1e-5)  # a softmax in steps of 1/255 would not


def test_squeeze_and_excitation_and_the_head_stay_in_float(efficient_onnx: Path, tmp_path: Path) -> None:
    quantize("static", efficient_onnx, tmp_path / "int8.onnx", pictures(10, seed=1))
    network = onnx.load(tmp_path / "int8.onnx")
    convolutions = [all(kind == "DequantizeLinear" for kind in feeds) for _, feeds in inputs_of(network, "Conv")]
    assert sorted(convolutions) == [False, False, True, True, True]  # squeeze, excite; stem, depthwise, project
    for kind in ("Gemm", "Softmax"):
        assert all("DequantizeLinear" not in feeds[1:] for _, feeds in inputs_of(network, kind))
    weights = {t.name: t for t in network.graph.initializer}
    scales = [weights[f"{name}_scale"] for name in ("stem.weight", "depthwise.weight", "project.weight")]
    assert all(list(scale.dims) == [16] for scale in scales)  # one for each channel
    stem = onnx.numpy_helper.to_array(weights["stem.weight_quantized"])
    assert np.abs(stem).max() <= 64  # 7 bits


def test_one_outlier_does_not_widen_every_range(efficient_onnx: Path, tmp_path: Path) -> None:
    grey = np.full((50, SIDE, SIDE, 3), 128, np.uint8) + np.random.default_rng(0).integers(
        0, 8, (50, 1, 1, 3), np.uint8
    )
    outlier = np.concatenate([grey, flat(255, 255, 0)[None]])
    scales = []
    for name, photographs in (("without", grey), ("with", outlier)):
        quantize("static", efficient_onnx, tmp_path / name, photographs)
        tensors = {t.name: t for t in onnx.load(tmp_path / name).graph.initializer}
        scales.append(float(onnx.numpy_helper.to_array(tensors["div_scale"])))
    assert scales[1] < 2 * scales[0]


def test_the_same_photographs_give_the_same_bytes(efficient_onnx: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        quantize("static", efficient_onnx, tmp_path / name, pictures(5, seed=1))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "a").read_bytes()


def test_a_network_without_convolutions(small_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has nothing that --quantize static could make 8-bit"):
        quantize("static", small_onnx, tmp_path / "int8.onnx", pictures(5, seed=1))
