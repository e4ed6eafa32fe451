"""Movements as clients send them, and models that score them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from handlers.pipeline import Pipeline
from handlers.spec import HandlerSpec, NetworkSpec, ScalingSpec
from tests.handlers.networks import write_scorer

# Few, so that the weights of the little network can be read; "duration" is 1,000 ms in `movement()`.
FEATURES = ("straightness", "duration", "path_length", "mean_speed", "pauses", "net_turn")
REFERENCE = (0.9, 800.0, 500.0, 600.0, 0.0, 0.5)


def movement(count: int = 51, duration: float = 1000.0, pointer: str | None = None) -> dict[str, Any]:
    """A straight line of 300 x 400 px in `duration` ms, in the form with points."""
    shares = np.linspace(0, 1, count).tolist()
    instance: dict[str, Any] = {"points": [{"x": 300 * s, "y": 400 * s, "t": 5 + duration * s} for s in shares]}
    return instance | ({"pointer": pointer} if pointer else {})


def classifier(folder: Path, threshold: float = 0.5, chunk: int = 16) -> Pipeline:
    """P(human) falls with the duration: a half at 900 ms."""
    write_scorer(folder / "model.onnx", [0, -0.01, 0, 0, 0, 0], 9.0, "human")
    return Pipeline.load(folder, classifier_spec(threshold, chunk))


def classifier_spec(threshold: float = 0.5, chunk: int = 16) -> HandlerSpec:
    network = NetworkSpec("model.onnx", (len(FEATURES),), "float32", ("human",), chunk)
    return HandlerSpec(
        "trajectory_classification",
        ("bot", "human"),
        network,
        features=FEATURES,
        reference=REFERENCE,
        threshold=threshold,
    )


def detector(folder: Path, threshold: float = 0.95) -> Pipeline:
    """The anomaly rises with the scaled logarithm of the duration: a half at 999 ms of a mouse, at 99 ms of a touch."""
    write_scorer(folder / "model.onnx", [0, 1, 0, 0.1, 0, 0], 0.0, "anomaly")
    return Pipeline.load(folder, detector_spec(threshold))


def detector_spec(threshold: float = 0.95) -> HandlerSpec:
    network = NetworkSpec("model.onnx", (len(FEATURES),), "float32", ("anomaly",), 16)
    scaling = {
        "mouse": ScalingSpec((0, np.log(1000.0), 6, 6, 0, 0), (1, 0.5, 1, 2, 1, 1)),
        "touch": ScalingSpec((0, np.log(100.0), 6, 6, 0, 0), (1, 0.5, 1, 2, 1, 1)),
    }
    return HandlerSpec("trajectory_anomaly", network=network, features=FEATURES, threshold=threshold, scaling=scaling)
