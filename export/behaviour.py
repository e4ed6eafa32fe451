"""What a training on movements left -> the files and records of an archive."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export import isolation_forest, random_forest
from export.errors import ExportError
from handlers.trajectory import NAMES
from training.behaviour import ROWS, load
from training.cli import DataError
from training.isolation_forest_ai import anomaly, normalise

TOLERANCE = 1e-5
BATCH_SIZES = (1, 2, 7)
_SINGLE = 200  # rows that are run one by one, too

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parity:
    """How far ONNX was from scikit-learn on the rows of the test."""

    inputs: int
    max_difference: float
    flipped: int  # rows on different sides of the threshold
    tolerance: float = TOLERANCE


def export_forest(checkpoint: Path, handler: dict[str, Any], target: Path) -> dict[str, Any]:
    """Write the ONNX file, complete the spec's handler section, and return the records. Raises ExportError."""
    if not checkpoint.is_file():
        raise ExportError(f"{checkpoint} does not exist; training/random_forest_ai.py and its sister write model.skops")
    try:
        forest, meta = load(checkpoint.parent)
        serving = meta.pop("serving")
        with np.load(checkpoint.with_name(ROWS)) as file:
            features, touch = file["features"], file["touch"]
    except (DataError, OSError, KeyError, ValueError) as error:
        raise ExportError(f"{checkpoint.parent} holds no finished training: {error}") from None
    names = serving["features"]
    try:
        if handler["task"] == "trajectory_classification":
            inputs = features[:, [NAMES.index(name) for name in names]]
            model = random_forest.convert(forest, len(names))
            served = scores = forest.predict_proba(inputs)[:, 1]
        else:
            inputs = normalise(features, touch, names, serving["scaling"])
            known = np.sort(np.array(serving["calibration"], np.float32)).astype(float)  # rounded as the graph has it
            model = isolation_forest.convert(forest, len(names), known)
            served, scores = anomaly(forest, known, inputs), -forest.score_samples(inputs)
    except (AttributeError, TypeError, KeyError) as error:
        raise ExportError(f"{checkpoint} is of another kind of model than {handler['task']}: {error}") from None
    target.write_bytes(model.SerializeToString(deterministic=True))
    parity = check_parity(target, inputs, scores, served, serving["threshold"])
    handler |= {name: serving[name] for name in ("threshold", "features", "reference", "scaling") if name in serving}
    handler["network"]["input_shape"] = [len(names)]
    return meta | {"parity": asdict(parity)}


def check_parity(path: Path, inputs: NDArray[np.float32], scores: Scores, served: Scores, threshold: float) -> Parity:
    """Hold the file against scikit-learn's `scores` (rows,) at batch 1, 2, 7 and all at once; its last output, against
    `served`, decides which rows are flipped. Raises ExportError."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    found, decided = (
        output[:, 0].astype(np.float64) for output in _first_and_last(session.run(None, {"features": inputs}))
    )
    single = inputs[:_SINGLE]
    for size in BATCH_SIZES:
        batches = [
            session.run(None, {"features": single[start : start + size]}) for start in range(0, len(single), size)
        ]
        part = np.concatenate([outputs[0][:, 0] for outputs in batches])
        if np.abs(part - found[: len(part)]).max() > TOLERANCE:
            raise ExportError(f"{path.name} answers differently in batches of {size}")
    difference = np.abs(found - scores)
    if not difference.max() <= TOLERANCE:  # NaN too
        row = int(np.argmax(~(difference <= TOLERANCE)))
        raise ExportError(
            f"row {row}: ONNX says {found[row]:.7f}, scikit-learn {scores[row]:.7f}: over {TOLERANCE} apart"
        )
    sides = [np.round(values, 6) > threshold for values in (decided, served)]  # as the reply rounds
    flipped = int((sides[0] != sides[1]).sum())
    return Parity(len(inputs), float(difference.max()), flipped)


def _first_and_last(outputs: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return outputs[0], outputs[-1]
