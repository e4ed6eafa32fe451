"""A movement, or features of one -> the row that a network takes, and which of them its answer rests on.

An explanation leaves one feature out at a time: what would the score be if that one were as a person's usually is?
(Robnik-Sikonja & Kononenko 2008, Explaining classifications for individual instances.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers import points
from handlers.errors import InvalidContentError, SpecError
from handlers.features import LARGEST, FeatureReader
from handlers.payload import Instance, names
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Run, Task
from handlers.trajectory import FEATURES, NAMES, features

EXPLAINED = 5  # features in an explanation


class Behaviour(Task):
    """Everything but the reply.

    Takes a movement as `points` reads it, `{"features": {name: value}}`, or `{"features": [value, ...]}` in the order
    of the spec's `features`.
    """

    def __init__(self, spec: HandlerSpec, output: str) -> None:
        """`output` has one number per row: the score. Raises SpecError where the spec does not suit."""
        network = spec.network
        if network is None:
            raise SpecError(f"{spec.task} needs a handler.network")
        if unknown := sorted(set(spec.features) - set(NAMES)):
            raise SpecError(f"handler.features has unknown names: {', '.join(unknown)}")
        if not spec.features or len(set(spec.features)) < len(spec.features):
            raise SpecError(f"{spec.task} needs handler.features, each once")
        if network.input_type != "float32" or network.input_shape != (len(spec.features),):
            raise SpecError(f"{spec.task} needs a network from float32 [{len(spec.features)}], one per feature")
        if output not in network.outputs:
            raise SpecError(f"{spec.task} needs {output!r} in handler.network.outputs")
        self._output = output
        self._columns = [NAMES.index(name) for name in spec.features]
        self._features = [FEATURES[column] for column in self._columns]
        self._reader = FeatureReader(spec.features)

    def decode(self, instance: Instance) -> Item:
        """Its `extra` has the trajectory, which `gather` turns into features, or their values; and the pointer."""
        if isinstance(instance, bytes):
            raise InvalidContentError("""expected JSON: {"points": [{"x": px, "y": px, "t": ms}, ...]}""")
        if "features" not in instance:
            trajectory = points.read(instance)
            return Item(None, {"trajectory": trajectory, "pointer": trajectory.pointer})
        if unknown := instance.keys() - {"features", "pointer"}:
            raise InvalidContentError(f"""with 'features', only 'pointer' is accepted, not {names(unknown)}""")
        return self._item(self._reader.read(instance["features"]), points.read_pointer(instance))

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """Their arrays are float32 (features,); their `extra` has the values these were made of, and the pointer."""
        moved = [item.extra["trajectory"] for item in items if item.array is None]
        if not moved:
            return list(items)
        computed = iter(features(moved))
        return [
            self._item(next(computed)[self._columns], item.extra["pointer"]) if item.array is None else item
            for item in items
        ]

    def _item(self, values: NDArray[np.float32], pointer: str) -> Item:
        return Item(self.to_input(values, pointer), {"values": values, "pointer": pointer})

    def explain(self, item: Item, row: Row, run: Run) -> list[dict[str, Any]]:
        """The EXPLAINED features that move the score most; the weight is what it loses when the feature is typical."""
        values, pointer = item.extra["values"], item.extra["pointer"]
        variants = np.tile(self.to_input(values, pointer), (len(values), 1))
        np.fill_diagonal(variants, self.typical_input(pointer))
        weights = [self.score(row) - self.score(variant) for variant in run(list(variants))]
        typical = self.typical(pointer)
        order = sorted(range(len(weights)), key=lambda index: -abs(weights[index]))[:EXPLAINED]
        return [
            {
                "feature": self._features[index].name,
                "value": _shown(values[index]),
                "unit": self._features[index].unit,
                "typical": _shown(typical[index]),
                "weight": round(weights[index], 4) + 0.0,  # no -0.0
            }
            for index in order
        ]

    def score(self, row: Row) -> float:
        """Rounded as the reply shows it: float32 has 0.99 above 0.99, and a label must follow from what is shown."""
        return round(float(row[self._output].item()), 6)

    def to_input(self, values: NDArray[np.float32], pointer: str) -> NDArray[np.float32]:  # noqa: ARG002
        """Values of the features, (features,) -> what the network takes, (features,)."""
        return values

    def typical_input(self, pointer: str) -> NDArray[np.float32]:
        """(features,): what the network takes for a movement typical of people."""
        return self.to_input(self.typical(pointer), pointer)

    def typical(self, pointer: str) -> NDArray[np.float32]:
        """(features,): the values of such a movement, each in its own unit."""
        raise NotImplementedError


def checked(values: Sequence[float], count: int, where: str) -> NDArray[np.float32]:
    """(count,). Raises SpecError."""
    if len(values) != count:
        raise SpecError(f"{where} must have {count} numbers, as many as handler.features")
    if any(abs(value) > LARGEST for value in values):
        raise SpecError(f"{where} must be finite in float32")
    return np.array(values, np.float32)


def _shown(value: np.float32) -> float:
    return float(f"{value:.4g}") + 0.0
