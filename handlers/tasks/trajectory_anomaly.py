"""A movement -> how far it is from all that people did."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.behaviour import Behaviour, checked
from handlers.errors import SpecError
from handlers.pool import Pool
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row
from handlers.trajectory import POINTERS, compress, expand

_LEAST_SCALE = 1e-20  # so that no feature leaves float32's range


class TrajectoryAnomaly(Behaviour):
    """The network's `anomaly`, (1,), is in [0, 1]. It takes compressed features, centred and scaled by pointer."""

    def __init__(self, spec: HandlerSpec) -> None:
        super().__init__(spec, "anomaly")
        if set(spec.scaling) != set(POINTERS):
            raise SpecError(f"{spec.task} needs handler.scaling for {', '.join(POINTERS)}, and for nothing else")
        count = len(spec.features)
        self._threshold = spec.threshold
        # float32 as in training: a tree's limit may lie between two roundings.
        self._center: dict[str, NDArray[np.float32]] = {}
        self._scale: dict[str, NDArray[np.float32]] = {}
        self._typical: dict[str, NDArray[np.float32]] = {}
        for pointer, scaling in spec.scaling.items():
            where = f"handler.scaling.{pointer}"
            self._center[pointer] = checked(scaling.center, count, f"{where}.center")
            self._scale[pointer] = checked(scaling.scale, count, f"{where}.scale")
            if self._scale[pointer].min() < _LEAST_SCALE:
                raise SpecError(f"{where}.scale must be at least {_LEAST_SCALE}")
            with np.errstate(over="ignore"):
                typical = expand(np.array(scaling.center))
            self._typical[pointer] = checked(typical.tolist(), count, f"{where}, in the features' own units,")
        self._zeros = np.zeros(count, np.float32)

    def encode(self, item: Item, row: Row) -> dict[str, Any]:  # noqa: ARG002
        anomaly = self.score(row)
        return {"anomaly": anomaly, "flagged": anomaly > self._threshold, "threshold": self._threshold}

    def to_input(self, values: NDArray[np.float32], pointer: str) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = (compress(values) - self._center[pointer]) / self._scale[pointer]
        return scaled

    def typical_input(self, pointer: str) -> NDArray[np.float32]:  # noqa: ARG002
        return self._zeros

    def typical(self, pointer: str) -> NDArray[np.float32]:
        return self._typical[pointer]


def build(spec: HandlerSpec, pool: Pool | None) -> TrajectoryAnomaly:  # noqa: ARG001
    return TrajectoryAnomaly(spec)
