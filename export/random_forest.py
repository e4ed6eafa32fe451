"""scikit-learn's RandomForestClassifier of two classes -> ONNX, all of its trees in one operator of opset 5.

skl2onnx writes opset 3, whose lists of numbers and of words cost a worker four times the memory: they have a name
for the kind of every node, and a row for the leaves as for the splits.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.validation import check_is_fitted

from export.errors import ExportError

_OPSETS = {"": 18, "ai.onnx.ml": 5}
_IR_VERSION = 10
_AVERAGE, _NO_TRANSFORM, _LESS_OR_EQUAL = 0, 0, 0  # of the operator's attributes


def convert(forest: RandomForestClassifier, n_features: int) -> onnx.ModelProto:
    """The trained forest as a graph: `features` float32 (batch, n_features) -> `human` float32 (batch, 1), the
    probability of the second class.

    Raises ExportError where the forest is not trained on that many features and two classes.
    """
    try:
        check_is_fitted(forest)
    except Exception as error:
        raise ExportError("the random forest is not trained: call its fit first") from error
    if forest.n_features_in_ != n_features or len(forest.classes_) != 2:
        raise ExportError(
            f"the random forest was trained on {forest.n_features_in_} features and {len(forest.classes_)} classes, "
            f"not on {n_features} and 2"
        )
    roots: list[int] = []
    parts: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("feature", "split", "true", "true_leaf", "false", "false_leaf", "weight")
    }
    splits = leaves = 0
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        if tree.node_count == 1:
            raise ExportError("a tree of the forest has no split: it was trained on too little")
        is_leaf = tree.children_left < 0
        number = np.where(is_leaf, leaves + is_leaf.cumsum() - 1, splits + (~is_leaf).cumsum() - 1)
        roots.append(splits)
        left, right = tree.children_left[~is_leaf], tree.children_right[~is_leaf]
        parts["feature"].append(tree.feature[~is_leaf])
        parts["split"].append(round_down(tree.threshold[~is_leaf]))
        parts["true"].append(number[left])
        parts["true_leaf"].append(is_leaf[left])
        parts["false"].append(number[right])
        parts["false_leaf"].append(is_leaf[right])
        value = tree.value[is_leaf][:, 0]  # (leaves, 2)
        parts["weight"].append(value[:, 1] / value.sum(axis=1))
        splits, leaves = splits + len(left), leaves + int(is_leaf.sum())
    flat = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    node = helper.make_node(
        "TreeEnsemble",
        ["features"],
        ["human"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=_AVERAGE,
        post_transform=_NO_TRANSFORM,
        tree_roots=roots,
        nodes_featureids=flat["feature"].tolist(),
        nodes_splits=numpy_helper.from_array(flat["split"].astype(np.float32), "splits"),
        nodes_modes=numpy_helper.from_array(np.full(splits, _LESS_OR_EQUAL, np.uint8), "modes"),
        nodes_truenodeids=flat["true"].tolist(),
        nodes_trueleafs=flat["true_leaf"].astype(int).tolist(),
        nodes_falsenodeids=flat["false"].tolist(),
        nodes_falseleafs=flat["false_leaf"].astype(int).tolist(),
        leaf_targetids=[0] * leaves,
        leaf_weights=numpy_helper.from_array(flat["weight"].astype(np.float32), "weights"),
    )
    batch = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", width])
        for name, width in (("features", n_features), ("human", 1))
    ]
    graph = helper.make_graph([node], "random_forest", batch[:1], batch[1:])
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return model


def round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each: a float32 lies below the one exactly where it lies below the other."""
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
