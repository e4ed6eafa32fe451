"""float16 networks and their gate, which sees what a CPU hides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.half import check_half, emulate, to_half
from export.image_classifier import crops
from tests.export.models import EXAMPLE, SIDE


def write_overflowing(path: Path) -> None:
    """Pixels times 1,000 and by 1,000 again: nothing to float32, while float16 ends at 65,504."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "thousand"], ["large"]),
        helper.make_node("Div", ["large", "thousand"], ["small"]),
        helper.make_node("Softmax", ["small"], ["probabilities"], axis=1),
    ]
    values = [
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(np.array(1000, np.float32), "thousand"),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "overflowing", [pixels], [output], values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def run(network: onnx.ModelProto, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = ort.InferenceSession(network.SerializeToString()).run(None, {"pixels": pixels})[0]
    return found


def test_half_the_bytes_and_the_same_doors(efficient_onnx: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.onnx"
    to_half(efficient_onnx, target)
    graph = onnx.load(target).graph
    assert [value.type.tensor_type.elem_type for value in graph.input] == [TensorProto.UINT8]
    assert [value.type.tensor_type.elem_type for value in graph.output] == [TensorProto.FLOAT]
    assert all(tensor.data_type != TensorProto.FLOAT for tensor in graph.initializer)
    parity = check_half(efficient_onnx, target, crops(EXAMPLE, SIDE))
    assert parity.inputs == 70
    assert 0 < parity.max_difference <= parity.tolerance
    assert parity.equal_labels > 0.9


def test_what_overflows_is_refused(tmp_path: Path) -> None:
    """onnxruntime itself computes that in float32 on a CPU, and sees nothing."""
    source, target = tmp_path / "model.onnx", tmp_path / "half.onnx"
    write_overflowing(source)
    to_half(source, target)
    with pytest.raises(ExportError, match=r"float16 fails its gate for 70 of 70 inputs; .*nan"):
        check_half(source, target, crops(EXAMPLE, SIDE))


def test_another_network_is_refused(efficient_onnx: Path, tmp_path: Path) -> None:
    network = onnx.load(efficient_onnx)
    bias = next(tensor for tensor in network.graph.initializer if tensor.name == "head.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.array([1, 0], np.float32), bias.name))
    onnx.save(network, tmp_path / "other.onnx")
    with pytest.raises(ExportError, match=r"worst is captcha_image.jpg crop \d+: float32 .*tolerance 0.01"):
        check_half(efficient_onnx, tmp_path / "other.onnx", crops(EXAMPLE, SIDE))


def test_emulation_rounds_what_lies_between(efficient_onnx: Path) -> None:
    pixels = np.stack([pixels for _, pixels in crops(EXAMPLE, SIDE)])
    network = onnx.load(efficient_onnx)
    difference = np.abs(run(emulate(network), pixels) - run(network, pixels)).max()
    assert 1e-6 < difference < 1e-2
