"""A float32 network -> one with float16 weights and activations, for GPUs; its gate runs without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.parity import compare, furthest

TOLERANCE = 1e-2  # of a probability; float16 has three digits
_BATCH = 8


@dataclass(frozen=True, slots=True)
class HalfParity:
    """How far float16 was from float32."""

    inputs: int
    max_difference: float
    equal_labels: float  # share
    tolerance: float = TOLERANCE


def to_half(source: Path, target: Path) -> None:
    """Write `target`: the network of `source` in float16, with the inputs and outputs that it had."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # its package appends to sys.path

    network = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    onnx.checker.check_model(network)
    target.write_bytes(network.SerializeToString(deterministic=True))


def check_half(source: Path, target: Path, inputs: Sequence[tuple[str, NDArray[np.uint8]]]) -> HalfParity:
    """Compare probabilities on named inputs, each (*input_shape). Raises ExportError where one is off by more than the
    tolerance, or where a label differs of which float32 was surer than that.

    onnxruntime has next to no float16 on a CPU: it computes in float32 and drops the rounding between. So beside the
    file as it is, `emulate`'s network is run, which rounds as a GPU does.
    """
    arrays = np.stack([array for _, array in inputs])  # (N, *input_shape)
    network = onnx.load(source)
    expected = _run(network, arrays)  # (N, classes)
    runners_up, best = np.sort(expected, axis=1)[:, -2:].T
    worst, equal = 0.0, 1.0
    for rounded in (onnx.load(target), emulate(network)):
        got = _run(rounded, arrays)
        difference, differs = compare(expected, got)
        # NaN compares false with everything, so the gate asks for what is good.
        bad = ~(difference <= TOLERANCE) | (differs & (best - runners_up > TOLERANCE))
        if bad.any():
            index = furthest(difference, bad)
            raise ExportError(
                f"float16 fails its gate for {int(bad.sum())} of {len(inputs)} inputs; worst is {inputs[index][0]}: "
                f"float32 {expected[index].round(5).tolist()}, float16 {got[index].round(5).tolist()} "
                f"(tolerance {TOLERANCE:g}). Serve the float32 network"
            )
        worst, equal = max(worst, float(difference.max())), min(equal, 1 - float(differs.mean()))
    return HalfParity(len(inputs), worst, equal)


def emulate(network: onnx.ModelProto) -> onnx.ModelProto:
    """The float32 network with weights, and every result of a node, rounded to float16: a GPU stores those so and adds
    up in float32. What is too large for float16 becomes infinite, as there."""
    rounded: onnx.ModelProto = onnx.shape_inference.infer_shapes(network)
    graph = rounded.graph
    floats = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            with np.errstate(over="ignore"):
                exact = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(exact, tensor.name))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in floats:
                node.output[index] = f"{name}/exact"
                nodes.append(helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return rounded


def _run(network: onnx.ModelProto, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    batches = (arrays[start : start + _BATCH] for start in range(0, len(arrays), _BATCH))
    return np.concatenate([session.run(None, {name: batch})[0] for batch in batches])
