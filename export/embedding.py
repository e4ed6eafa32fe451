"""The network of an image classifier, cut before its last layer -> the network of an embedding, and its gate."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.parity import BATCH_SIZES, TOLERANCE, compare, furthest
from handlers.archive import file_digest
from handlers.tasks.image_embedding import OUTPUT

NORM_TOLERANCE = 1e-5
_SMALLEST = np.array(1e-12, np.float32)  # what torch.nn.functional.normalize divides by at least


@dataclass(frozen=True, slots=True)
class CutParity:
    """How far the classifier's own last layer, behind the cut network, is from the classifier."""

    inputs: int
    dim: int
    max_difference: float  # of a probability
    max_norm_error: float
    tolerance: float = TOLERANCE
    norm_tolerance: float = NORM_TOLERANCE
    batch_sizes: tuple[int, ...] = BATCH_SIZES


def to_embedding(
    handler: dict[str, Any], metadata: dict[str, Any], network: Path, inputs: Sequence[tuple[str, NDArray[Any]]]
) -> None:
    """Replace the classifier in `network` by its embedding, and what its spec and its metadata say of a classifier.

    Raises ExportError where the gate fails, or for a classifier that is not the one of the training.
    """
    if had := [key for key in ("quantization", "float16") if key in metadata]:
        raise ExportError(f"the classifier's network is not the float32 one (it has {had[0]}): start from that one")
    classifier = network.with_name("classifier.onnx")
    network.rename(classifier)
    metadata["cut"] = asdict(cut(classifier, network, inputs))
    metadata["cut"]["classifier_sha256"] = file_digest(classifier)
    metadata.pop("evaluation", None)  # of the classifier
    handler.pop("labels", None)


def cut(source: Path, target: Path, inputs: Sequence[tuple[str, NDArray[Any]]]) -> CutParity:
    """Write `target`: what goes into the classifier's last layer, divided by its Euclidean length, (B, dim).

    That is then held against the source on named inputs, each (*input_shape): scaled back to the length it had, the
    classifier's last layer must make the source's probabilities of it, at batch 1, 2 and 7. Raises ExportError.
    """
    graph = onnx.load(source).graph
    features = _features(graph)
    pixels, probabilities = graph.input[0].name, graph.output[0].name
    with tempfile.TemporaryDirectory(prefix="marserve-cut-") as scratch:
        body, head = Path(scratch, "body.onnx"), Path(scratch, "head.onnx")
        try:
            onnx.utils.extract_model(source, body, [pixels], [features])
            onnx.utils.extract_model(source, head, [features], [probabilities])
            network = _normalised(onnx.load(body))
            onnx.checker.check_model(network, full_check=True)
        except (ValueError, onnx.checker.ValidationError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"the classifier cannot be cut before its last layer: {reason}") from error
        target.write_bytes(network.SerializeToString(deterministic=True))
        return _check(source, body, head, target, inputs)


def _features(graph: onnx.GraphProto) -> str:
    """The input of the last linear layer: what a Gemm, or a MatMul and an Add, multiplies by weights before softmax."""
    maker = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name for tensor in graph.initializer}
    softmax = next((node for node in reversed(graph.node) if node.op_type == "Softmax"), None)
    layer = maker.get(softmax.input[0]) if softmax else None
    if layer is not None and layer.op_type == "Add":
        layer = next((maker[name] for name in layer.input if name in maker), None)
    if layer is None or layer.op_type not in ("Gemm", "MatMul") or layer.input[1] not in weights:
        raise ExportError("the classifier does not end in a linear layer and a softmax: nothing to cut before")
    name: str = layer.input[0]
    return name


def _normalised(network: onnx.ModelProto) -> onnx.ModelProto:
    """The same with its output, (B, dim), divided by its length; named OUTPUT."""
    graph = network.graph
    features = graph.output[0].name
    shape = [dim.dim_value or dim.dim_param for dim in graph.output[0].type.tensor_type.shape.dim]
    names = [f"{OUTPUT}/{part}" for part in ("axis", "smallest", "length", "divisor")]
    axis, smallest, length, divisor = names
    graph.initializer.extend(
        [numpy_helper.from_array(np.array([1]), axis), numpy_helper.from_array(_SMALLEST, smallest)]
    )
    graph.node.extend(
        [
            helper.make_node("ReduceL2", [features, axis], [length], length, keepdims=1),
            helper.make_node("Max", [length, smallest], [divisor], divisor),
            helper.make_node("Div", [features, divisor], [OUTPUT], OUTPUT),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
    return network


def _check(source: Path, body: Path, head: Path, target: Path, inputs: Sequence[tuple[str, NDArray[Any]]]) -> CutParity:
    arrays = np.stack([array for _, array in inputs])  # (N, *input_shape)
    expected = _run(source, arrays, 1)  # (N, classes)
    length = np.linalg.norm(_run(body, arrays, 1), axis=1, keepdims=True)  # (N, 1)
    worst, off, dim = 0.0, 0.0, 0
    for batch in BATCH_SIZES:
        embedding = _run(target, arrays, batch)  # (N, dim)
        norm_error = np.abs(np.linalg.norm(embedding.astype(np.float64), axis=1) - 1)
        difference, differs = compare(expected, _run(head, embedding * length, len(arrays)))
        # NaN compares false with everything, so the gate asks for what is good.
        bad = ~(difference <= TOLERANCE) | differs | ~(norm_error <= NORM_TOLERANCE)
        if bad.any():
            index = furthest(difference, bad)
            raise ExportError(
                f"the embedding fails its gate at batch {batch} for {int(bad.sum())} of {len(inputs)} inputs; worst is "
                f"{inputs[index][0]}: its length is off by {norm_error[index]:.1e} (tolerance {NORM_TOLERANCE:g}), "
                f"the classifier's probabilities of it by {difference[index]:.1e} (tolerance {TOLERANCE:g})"
            )
        worst, off = max(worst, float(difference.max())), max(off, float(norm_error.max()))
        dim = embedding.shape[1]
    return CutParity(len(inputs), dim, worst, off)


def _run(path: Path, arrays: NDArray[Any], batch: int) -> NDArray[np.float32]:
    """(N, *shape) -> (N, outputs). One thread: the record must not hang on the number of cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    batches = (arrays[start : start + batch] for start in range(0, len(arrays), batch))
    return np.concatenate([session.run(None, {name: part})[0] for part in batches])
