"""A float32 network -> one with 8-bit weights, by onnxruntime's quantizer; `comparison` says what it costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.errors import ExportError

Method = Literal["dynamic", "static"]
_QUANTIZED = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})  # a network without either has no 8-bit part


def quantize(method: Method, source: Path, target: Path, photographs: Iterable[NDArray[np.uint8]] = ()) -> None:
    """Write `target`: the network of `source` with 8-bit weights, and 8-bit activations where it multiplies them.

    `static` fixes the ranges of the activations beforehand, by `photographs` (each (*input_shape)); `dynamic` finds
    them anew in every batch. Raises ExportError for a network that has nothing to quantise.
    """
    with tempfile.TemporaryDirectory(prefix="marserve-quantize-") as scratch:
        prepared = Path(scratch, "prepared.onnx")
        quant_pre_process(source, prepared)
        graph = onnx.load(prepared).graph
        # 7-bit weights: AVX2 adds two products in 16 bits, which 8 of each side overflow; only VNNI does without.
        settings = {"per_channel": True, "reduce_range": True, "weight_type": quantization.QuantType.QInt8}
        try:
            if method == "static":
                quantization.quantize_static(
                    prepared,
                    target,
                    _Photographs(graph.input[0].name, photographs),
                    activation_type=quantization.QuantType.QUInt8,
                    # With the activation between two convolutions in 8 bits, nothing is converted back and forth there.
                    op_types_to_quantize=["Conv", "Sigmoid", "Mul", "Add"],
                    nodes_to_exclude=_pooled(graph),
                    # The mean of each photograph's range: the widest of all is that of one outlier.
                    extra_options={"CalibMovingAverage": True},
                    **settings,
                )
            else:
                quantization.quantize_dynamic(
                    prepared,
                    target,
                    op_types_to_quantize=["Conv", "MatMul"],  # Gemm is one of a MatMul
                    nodes_to_exclude=_after_softmax(graph),
                    **settings,
                )
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"onnxruntime cannot quantise this network: {str(error).splitlines()[0]}") from error
    network = onnx.load(target)
    if not any(node.op_type in _QUANTIZED for node in network.graph.node):
        raise ExportError(f"this network has nothing that --quantize {method} could make 8-bit")
    onnx.checker.check_model(network)
    target.write_bytes(network.SerializeToString(deterministic=True))


class _Photographs(quantization.CalibrationDataReader):  # type: ignore[misc]
    """One by one, so that each has a range of its own."""

    def __init__(self, name: str, photographs: Iterable[NDArray[np.uint8]]) -> None:
        self._feeds = iter({name: pixels[None]} for pixels in photographs)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._feeds, None)


def _pooled(graph: Any) -> list[str]:
    """The nodes on 1x1 maps, to be left in float: squeeze-and-excitation. One scale for the means of hundreds of
    channels is coarse, each error there is multiplied into a whole channel, and they take no time."""
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.value_info}
    found = []
    for node in graph.node:
        shape = shapes.get(node.output[0], [])
        if len(shape) == 4 and shape[2:] == [1, 1]:
            found.append(node.name)
    return found


def _after_softmax(graph: Any) -> list[str]:
    """The softmax and what follows: the sums of classes, which would come out in steps of 1/255."""
    kinds = [node.op_type for node in graph.node]
    return [node.name for node in graph.node[kinds.index("Softmax") :]] if "Softmax" in kinds else []
