"""scikit-learn's IsolationForest -> ONNX, all of its trees in one operator.

skl2onnx's own converter writes 27 operators per tree: two hundred trees then take milliseconds for one row.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.algebra.onnx_ops import OnnxCast, OnnxLess, OnnxMul, OnnxPow, OnnxReduceMean, OnnxTreeEnsembleRegressor_3
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import IsolationForest
from sklearn.ensemble._iforest import _average_path_length
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from export.errors import ExportError

_OPSETS = {"": 18, "ai.onnx.ml": 3}  # 18: ReduceMean takes its axes as an input; 3: trees in float64


def convert(
    forest: IsolationForest, n_features: int, calibration: NDArray[np.floating[Any]] | None = None
) -> onnx.ModelProto:
    """The trained forest as a graph: `features` float32 (batch, n_features) -> `score` float32 (batch, 1).

    The score is scikit-learn's -score_samples, in (0, 1]: the higher, the more anomalous. Rows with NaN go where
    scikit-learn sends them. With `calibration`, scores (K,) of rows known to be normal, there is a second output,
    `anomaly` float32 (batch, 1) in [0, 1]: the share of those K that are strictly lower than the row's score. Let this
    graph compute them: scikit-learn's are not rounded to float32, and a row may then exceed its own.

    Raises ExportError where the forest is not trained, is trained on another number of features or on single rows, or
    where the calibration is not a vector of such scores.
    """
    try:
        check_is_fitted(forest)
    except NotFittedError as error:
        raise ExportError("the isolation forest is not trained: call its fit first") from error
    if forest.n_features_in_ != n_features:
        raise ExportError(f"the isolation forest was trained on {forest.n_features_in_} features, not on {n_features}")
    if forest.max_samples_ < 2:
        raise ExportError("each tree was trained on a single row, and all scores are equal: raise max_samples")
    if calibration is not None:
        _check_calibration(calibration)
    outputs = ["score"] if calibration is None else ["score", "anomaly"]
    kind = type(forest)
    model: onnx.ModelProto = convert_sklearn(
        forest,
        name="isolation_forest",
        initial_types=[("features", FloatTensorType([None, n_features]))],
        target_opset=_OPSETS,
        custom_parsers={kind: partial(_declare, outputs)},
        custom_shape_calculators={kind: _shape},
        custom_conversion_functions={kind: partial(_write, calibration)},
    )
    return model


def _check_calibration(scores: NDArray[np.floating[Any]]) -> None:
    if scores.ndim != 1 or not scores.size:
        raise ExportError(f"the calibration must be a vector of scores, not an array {scores.shape}")
    if not ((scores > 0) & (scores <= 1)).all():  # NaN too
        raise ExportError("the calibration's scores must be in (0, 1], as -score_samples gives them")


def _declare(outputs: list[str], scope: Any, model: Any, inputs: list[Any], **_: Any) -> list[Any]:
    """skl2onnx's parser: one operator, with these outputs instead of a label and a decision."""
    operator = scope.declare_local_operator("SklearnIsolationForest", model)
    operator.inputs = inputs
    operator.outputs.extend(scope.declare_local_variable(name, FloatTensorType()) for name in outputs)
    return list(operator.outputs)


def _shape(operator: Any) -> None:
    """skl2onnx's shape calculator."""
    for output in operator.outputs:
        output.type = FloatTensorType([None, 1])


def _write(calibration: NDArray[np.floating[Any]] | None, scope: Any, operator: Any, container: Any) -> None:
    """skl2onnx's converter: 2 ** -(mean path / expected path), as _compute_score_samples of scikit-learn 1.9 has it."""
    opset, forest = _OPSETS[""], operator.raw_operator
    # In float64, as scikit-learn compares and adds: no threshold is rounded, so no row changes sides, and the sum over
    # the trees does not hang on their order, which changes with the batch size and the number of threads.
    features = OnnxCast(operator.inputs[0], to=onnx.TensorProto.DOUBLE, op_version=opset)
    path = OnnxTreeEnsembleRegressor_3(features, op_version=_OPSETS["ai.onnx.ml"], **_trees(forest))  # (batch, 1)
    expected = _average_path_length([forest.max_samples_])[0]
    exponent = OnnxMul(path, np.array([-1 / expected], np.float32), op_version=opset)
    score = OnnxPow(np.array([2], np.float32), exponent, op_version=opset, output_names=[operator.outputs[0].full_name])
    score.add_to(scope, container)
    if calibration is not None:
        wide = OnnxCast(score, to=onnx.TensorProto.DOUBLE, op_version=opset)
        lower = OnnxLess(calibration.astype(np.float64), wide, op_version=opset)  # (batch, K)
        anomaly = OnnxReduceMean(
            OnnxCast(lower, to=onnx.TensorProto.FLOAT, op_version=opset),
            np.array([1], np.int64),
            op_version=opset,
            output_names=[operator.outputs[1].full_name],
        )
        anomaly.add_to(scope, container)


def _trees(forest: IsolationForest) -> dict[str, Any]:
    """The attributes of the one TreeEnsembleRegressor: a leaf holds the path's length, the output is their mean."""
    columns: list[dict[str, NDArray[Any]]] = []
    for number, (estimator, features) in enumerate(zip(forest.estimators_, forest.estimators_features_, strict=True)):
        tree = estimator.tree_
        leaf = tree.children_left < 0
        # A depth counts nodes, a path the edges between them.
        path = tree.compute_node_depths() + _average_path_length(tree.n_node_samples) - 1
        # Of a leaf, scikit-learn holds negative children and features; ONNX wants numbers that exist.
        columns.append(
            {
                "nodes_treeids": np.full(tree.node_count, number),
                "nodes_nodeids": np.arange(tree.node_count),
                "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ"),
                "nodes_featureids": features[np.where(leaf, 0, tree.feature)],  # max_features: a tree numbers its own
                "nodes_values_as_tensor": np.where(leaf, 0, tree.threshold),
                "nodes_truenodeids": np.where(leaf, 0, tree.children_left),
                "nodes_falsenodeids": np.where(leaf, 0, tree.children_right),
                "nodes_missing_value_tracks_true": np.where(leaf, 0, tree.missing_go_to_left),
                "target_treeids": np.full(leaf.sum(), number),
                "target_nodeids": np.flatnonzero(leaf),
                "target_ids": np.zeros(leaf.sum(), np.int64),
                "target_weights_as_tensor": path[leaf],
            }
        )
    merged = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
    attributes: dict[str, Any] = {
        name: numpy_helper.from_array(values, name) if name.endswith("_as_tensor") else values.tolist()
        for name, values in merged.items()
    }
    return attributes | {"n_targets": 1, "aggregate_function": "AVERAGE"}
