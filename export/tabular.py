"""A scikit-learn classifier of `training/train_table.py` -> the files and records of an archive."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

from export.errors import ExportError
from export.parity import BATCH_SIZES, Parity, compare
from training.behaviour import ROWS, load
from training.cli import DataError

TOLERANCE = 1e-5
_OPSETS = {"": 18, "ai.onnx.ml": 3}


def export_table(checkpoint: Path, handler: dict[str, Any], target: Path) -> dict[str, Any]:
    """Write the ONNX file, complete the spec's handler section, and return the records. Raises ExportError."""
    if not checkpoint.is_file():
        raise ExportError(f"{checkpoint} does not exist; training/train_table.py writes model.skops")
    try:
        model, meta = load(checkpoint.parent)
        serving = meta.pop("serving")
        features, labels = serving["features"], serving["labels"]
        with np.load(checkpoint.with_name(ROWS)) as file:
            rows = file["features"]  # (rows, features)
        expected = model.predict_proba(rows)  # (rows, labels)
    except (DataError, OSError, KeyError, ValueError, AttributeError) as error:
        raise ExportError(f"{checkpoint.parent} holds no finished training on a table: {error}") from None
    inputs = [("features", FloatTensorType([None, len(features)]))]
    network = convert_sklearn(model, "classifier", inputs, options={"zipmap": False}, target_opset=_OPSETS)
    kept = [output for output in network.graph.output if output.name == "probabilities"]
    del network.graph.output[:]
    network.graph.output.extend(kept)
    onnx.checker.check_model(network)
    target.write_bytes(network.SerializeToString(deterministic=True))
    session = ort.InferenceSession(target, providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in BATCH_SIZES:
        starts = range(0, len(rows), size)
        found = np.concatenate([session.run(None, {"features": rows[at : at + size]})[0] for at in starts])
        difference, _ = compare(expected, found)
        if not difference.max() <= TOLERANCE:  # NaN too
            row = int(np.argmax(~(difference <= TOLERANCE)))
            raise ExportError(
                f"row {row} at batch {size}: ONNX says {found[row].round(6).tolist()}, scikit-learn "
                f"{expected[row].round(6).tolist()}: over {TOLERANCE} apart"
            )
        worst = max(worst, float(difference.max()))
    handler |= {"features": features, "labels": labels}
    handler["network"]["input_shape"] = [len(features)]
    return meta | {"parity": asdict(Parity(len(rows), worst, TOLERANCE))}
