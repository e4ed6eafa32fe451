"""BentoML: a service with an API for each model, with adaptive batching and a worker process per core.

A batchable API takes and gives a list, so requests are lists of one: `[{"features": [...]}]`, `[{"data": "<base64>"}]`.
"""

# No `from __future__ import annotations`: BentoML makes its models of the annotations.
from typing import Any

import bentoml

from loadtest.peers.common import NAMES, WORKERS, Model, batching


def predictor(name: str) -> Any:
    batch, _ = batching(name)  # how long to wait is what it adapts; beyond max_latency_ms it answers 503

    def predict(self: Any, requests: list[dict[str, Any]], /) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = self.models[name].answers(requests)
        return answers

    predict.__name__ = name  # by which BentoML finds it again
    route = f"/predictions/{name}"
    return bentoml.api(batchable=True, max_batch_size=batch, max_latency_ms=30_000, route=route)(predict)


class Predict:
    def __init__(self) -> None:
        self.models = {name: Model(name) for name in NAMES}


for name in NAMES:
    setattr(Predict, name, predictor(name))
quiet = {"metrics": {"enabled": False}, "logging": {"access": {"enabled": False}}}
Service = bentoml.service(workers=WORKERS, traffic={"timeout": 30}, **quiet)(Predict)
