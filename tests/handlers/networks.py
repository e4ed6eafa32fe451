"""Tiny real ONNX networks, and folders like those that TorchServe unpacks an archive to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from handlers.archive import DIGESTS, file_digest

SIDE = 8  # pixels
LABELS = ("red", "green", "blue")
SHARPNESS = 20.0


def write_classifier(
    path: Path,
    input_type: int = TensorProto.UINT8,
    shape: tuple[int | str, ...] = ("batch", SIDE, SIDE, 3),
    output: str = "probabilities",
    breaks_above: float | None = None,
    at_most_one: bool = False,
) -> Path:
    """uint8 (batch, side, side, 3) -> the colour of each image as (batch, 3) probabilities that sum to 1.

    With `breaks_above`, an image whose mean (0 to 1) is above it gives NaN; with `at_most_one`, a batch of more fails.
    """
    nodes = [
        helper.make_node("Reshape", ["pixels", "one" if at_most_one else "any"], ["reshaped"]),
        helper.make_node("Cast", ["reshaped"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["softmax"], axis=-1),
    ]
    constants = {"axes": np.array([1, 2]), "scale": np.float32(SHARPNESS / 255)}
    constants |= {"any": np.array([0, 0, 0, 0]), "one": np.array([1, SIDE, SIDE, 3])}
    if breaks_above is None:
        nodes.append(helper.make_node("Identity", ["softmax"], [output]))
    else:
        constants |= {"limit": np.float32(breaks_above * SHARPNESS), "last": np.array([1])}
        nodes += [  # the root of a negative number
            helper.make_node("ReduceMean", ["logits", "last"], ["brightness"], keepdims=1),
            helper.make_node("Sub", ["limit", "brightness"], ["left"]),
            helper.make_node("Sqrt", ["left"], ["root"]),
            helper.make_node("Sub", ["root", "root"], ["zero"]),
            helper.make_node("Add", ["softmax", "zero"], [output]),
        ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", input_type, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [shape[0], 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_embedding(path: Path, weight: float = 1.0) -> Path:
    """uint8 (batch, side, side, 3) -> the mean colour of each image, red times `weight`, as a vector of length 1.

    Black has no direction: its row is NaN.
    """
    constants = {"axes": np.array([1, 2]), "weights": np.array([weight, 1, 1], np.float32), "last": np.array([1])}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "weights"], ["colour"]),
            helper.make_node("ReduceL2", ["colour", "last"], ["length"], keepdims=1),
            helper.make_node("Div", ["colour", "length"], ["embedding"]),
        ],
        "direction",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_ensemble(path: Path, weights: Sequence[Sequence[float]]) -> Path:
    """uint8 (batch, side, side, 3) -> `members` (batch, networks, 3): softmax of the mean colour times each network's
    weights for red, green and blue; `probabilities` (batch, 3): their mean."""
    constants = {"axes": np.array([1, 2]), "middle": np.array([1])}
    constants |= {"weights": np.array(weights, np.float32) / 255}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["colour"], keepdims=0),
            helper.make_node("Unsqueeze", ["colour", "middle"], ["one"]),
            helper.make_node("Mul", ["one", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["members"], axis=-1),
            helper.make_node("ReduceMean", ["members", "middle"], ["probabilities"], keepdims=0),
        ],
        "ensemble",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("members", TensorProto.FLOAT, ["batch", len(weights), 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_scorer(path: Path, weights: Sequence[float], bias: float = 0.0, output: str = "human") -> Path:
    """float32 (batch, features) -> sigmoid(features @ weights + bias), (batch, 1)."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], [output]),
        ],
        "score",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", len(weights)])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.array(weights, np.float32)[:, None], "weights"),
            numpy_helper.from_array(np.array([bias], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_ranged(path: Path) -> Path:
    """float32 (batch, 2) -> each value by the batch's largest magnitude: a row's answer rests on the others."""
    graph = helper.make_graph(
        [
            helper.make_node("Abs", ["features"], ["magnitude"]),
            helper.make_node("ReduceMax", ["magnitude"], ["largest"], keepdims=0),
            helper.make_node("Div", ["features", "largest"], ["share"]),
        ],
        "range",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("share", TensorProto.FLOAT, ["batch", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_digests(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    (folder / DIGESTS).write_text(json.dumps(digests))
