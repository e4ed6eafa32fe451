"""A row of named numbers -> the probability of every label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from handlers.errors import InvalidContentError, SpecError
from handlers.spec import HandlerSpec, NetworkSpec
from handlers.tasks import Item, build_task

NETWORK = NetworkSpec("model.onnx", (2,), "float32")
SPEC = HandlerSpec("tabular_classification", ("yes", "no", "maybe"), NETWORK, features=("width", "height"))


@pytest.mark.parametrize("features", [[1.5, -2], {"width": 1.5, "height": -2}, {"height": -2.0, "width": 1.5}])
def test_both_forms_give_the_row(features: Any) -> None:
    array = build_task(SPEC, None).decode({"features": features}).array
    assert array is not None
    assert array.dtype == np.float32
    assert array.tolist() == [1.5, -2]


def test_the_reply_has_every_label() -> None:
    row = {"probabilities": np.array([0.25, 0.75, 0], np.float32)}
    assert build_task(SPEC, None).encode(Item(None), row) == {
        "label": "no",
        "confidence": 0.75,
        "probabilities": {"yes": 0.25, "no": 0.75, "maybe": 0},
    }


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (b"\xff\xd8\xff", "expected JSON"),
        ({}, "expected JSON"),
        ({"features": [1, 2], "pointer": "mouse"}, "and nothing else"),
        ({"features": [1]}, "'features' has 1 numbers; the model takes 2"),
        ({"features": {"width": 1}}, "'features' lacks 'height': the model takes all of them"),
        ({"features": {"width": 1, "height": 2, "depth": 3}}, "unknown features 'depth'"),
        ({"features": {"width": 1, "height": "2"}}, "the feature 'height' must be a finite number"),
        ({"features": [1, True]}, "the feature 'height' must be a finite number"),
        ({"features": [1, 1e39]}, "the feature 'height' must be a finite number of float32's range"),
        ({"features": [1, float("nan")]}, "must be a finite number"),
        ({"features": "1,2"}, "must be an object of names and numbers, or a list"),
        ({"features": None}, "must be an object of names and numbers, or a list"),
    ],
)
def test_wrong_requests(instance: bytes | dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidContentError, match=message):
        build_task(SPEC, None).decode(instance)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, features=()), r"needs handler\.features, each once"),
        (replace(SPEC, features=("width", "width")), r"needs handler\.features, each once"),
        (replace(SPEC, labels=("yes",)), r"at least two handler\.labels"),
        (replace(SPEC, network=None), r"needs a handler\.network from float32 \[2\]"),
        (replace(SPEC, network=replace(NETWORK, input_shape=(3,))), r"from float32 \[2\]"),
        (replace(SPEC, network=replace(NETWORK, input_type="uint8")), r"from float32 \[2\]"),
        (replace(SPEC, network=replace(NETWORK, outputs=("label",))), "to 'probabilities'"),
    ],
)
def test_specs_that_do_not_suit(spec: HandlerSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_task(spec, None)
