"""A movement -> how far it is from what people did."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers import points
from handlers.errors import SpecError
from handlers.spec import ScalingSpec
from handlers.tasks import Item, build_task
from handlers.trajectory import NAMES, compress, expand, features
from tests.handlers.movements import FEATURES, detector, detector_spec, movement


def test_the_reply_depends_on_the_pointer(tmp_path: Path) -> None:
    model = detector(tmp_path)
    mouse, touch = (json.loads(model([{"body": movement(pointer=p)}])[0].body) for p in ("mouse", "touch"))
    values = {name: float(compress(features([points.read(movement())]))[0, NAMES.index(name)]) for name in FEATURES}
    speed = 0.1 * (values["mean_speed"] - 6) / 2
    for reply, usual in ((mouse, 1000), (touch, 100)):
        logit = (values["duration"] - math.log(usual)) / 0.5 + speed
        assert reply["anomaly"] == pytest.approx(1 / (1 + math.exp(-logit)), abs=2e-6)
        assert reply["threshold"] == 0.95
    assert (mouse["flagged"], touch["flagged"]) == (False, True)


@pytest.mark.parametrize("threshold", [0.99, 0.95, 0.9])
def test_an_anomaly_on_the_threshold_is_not_flagged(threshold: float) -> None:
    """In float32 0.99 is above 0.99."""
    task = build_task(detector_spec(threshold), None)
    at, above = (
        task.encode(Item(None), {"anomaly": np.array([value], np.float32)}) for value in (threshold, threshold + 1e-5)
    )
    assert at == {"anomaly": threshold, "flagged": False, "threshold": threshold}
    assert above["flagged"] is True


SCALING = detector_spec().scaling


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({}, "needs handler.scaling for mouse, touch"),
        ({"mouse": SCALING["mouse"]}, "needs handler.scaling for mouse, touch"),
        ({**SCALING, "pen": SCALING["mouse"]}, "and for nothing else"),
        ({**SCALING, "touch": ScalingSpec((0.0,), (1.0,))}, r"handler.scaling.touch.* must have 6 numbers"),
        ({**SCALING, "touch": ScalingSpec((0.0,) * 6, (1e-300,) * 6)}, r"handler.scaling.touch.scale must be at least"),
        ({**SCALING, "touch": ScalingSpec((90.0,) * 6, (1.0,) * 6)}, r"handler.scaling.touch.* finite in float32"),
        ({**SCALING, "touch": ScalingSpec((1e9,) * 6, (1.0,) * 6)}, r"handler.scaling.touch.* finite in float32"),
    ],
)
def test_specs_that_do_not_suit(scaling: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_task(replace(detector_spec(), scaling=scaling), None)


def test_expanding_undoes_compressing() -> None:
    values = np.array([0, -0.5, 1e-3, 700, -1e6], np.float32)
    np.testing.assert_allclose(expand(compress(values)), values, rtol=1e-5)
