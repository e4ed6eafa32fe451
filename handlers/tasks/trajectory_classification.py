"""A movement -> whether a person or a program made it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.behaviour import Behaviour, checked
from handlers.errors import SpecError
from handlers.pool import Pool
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row

LABELS = ("bot", "human")


class TrajectoryClassification(Behaviour):
    """The network's `human`, (1,), is the probability that a person moved."""

    def __init__(self, spec: HandlerSpec) -> None:
        super().__init__(spec, "human")
        if spec.labels != LABELS:
            raise SpecError(f"{spec.task} needs handler.labels [{', '.join(LABELS)}]")
        self._threshold = spec.threshold
        self._reference = checked(spec.reference, len(spec.features), "handler.reference")

    def encode(self, item: Item, row: Row) -> dict[str, Any]:  # noqa: ARG002
        score = self.score(row)
        return {"label": LABELS[score >= self._threshold], "score": score, "threshold": self._threshold}

    def typical(self, pointer: str) -> NDArray[np.float32]:  # noqa: ARG002
        return self._reference


def build(spec: HandlerSpec, pool: Pool | None) -> TrajectoryClassification:  # noqa: ARG001
    return TrajectoryClassification(spec)
