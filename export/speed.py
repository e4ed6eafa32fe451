"""How long one row takes in an isolation forest's graph, ours and skl2onnx's: `python -m export.speed`."""

from __future__ import annotations

import os
import statistics
import time

import numpy as np
import onnxruntime as ort
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import IsolationForest

from export import isolation_forest

TREES, SAMPLES, FEATURES, ROUNDS = 200, 256, 30, 500


def main() -> None:
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    rows = np.random.default_rng(0).normal(0, 1, (5000, FEATURES)).astype(np.float32)
    forest = IsolationForest(n_estimators=TREES, max_samples=SAMPLES, random_state=0).fit(rows)
    stock = convert_sklearn(
        forest, initial_types=[("features", FloatTensorType([None, FEATURES]))], target_opset={"": 18, "ai.onnx.ml": 3}
    )
    graphs = {
        "one operator per tree (skl2onnx)": stock,
        "one operator (ours)": isolation_forest.convert(forest, FEATURES),
    }
    print(f"{TREES} trees of {SAMPLES} samples, {FEATURES} features, one row, one thread; medians of {ROUNDS}")
    for name, graph in graphs.items():
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(graph.SerializeToString(), options)
        times = []
        for index in range(ROUNDS):
            started = time.perf_counter()
            session.run(None, {"features": rows[index : index + 1]})
            times.append(time.perf_counter() - started)
        print(f"{name:34} {1e3 * statistics.median(times):8.3f} ms  {len(graph.graph.node):5} nodes")


if __name__ == "__main__":
    main()
