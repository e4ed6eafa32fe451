"""One handwritten digit -> which it is."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers import image, ink
from handlers.errors import InvalidContentError, SpecError
from handlers.spec import HandlerSpec, NetworkSpec
from handlers.tasks import Item, Task, build_task
from tests.handlers.drawings import seven
from tests.images import encode

NETWORK = NetworkSpec("model.onnx", (28, 28, 3))
SPEC = HandlerSpec("digit_recognition", tuple("0123456789"), NETWORK, preprocessing="ink")
DATA = encode(seven(), "JPEG")
SMALL = [encode(seven(28, (9, 4), 18, (255 - shade,) * 3, (0, 0, 0)), "PNG") for shade in range(3)]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """With three samples: a 7, a 1, a 4, by their labels at least."""
    path = tmp_path / "samples.json"
    samples = [
        {"label": label, "data": base64.b64encode(data).decode()} for label, data in zip("714", SMALL, strict=True)
    ]
    path.write_text(json.dumps({"samples": samples}))
    return build_task(replace(SPEC, samples=str(path)), None)


def test_an_image_is_centred_as_in_training(task: Task) -> None:
    for instance in (DATA, {"data": base64.b64encode(DATA).decode()}):
        item = task.decode(instance)
        assert item.array is not None
        np.testing.assert_array_equal(item.array, ink.load(DATA, 28))
        assert item.extra == {}


def test_the_reply_names_the_digit(task: Task) -> None:
    probabilities = np.full(10, 0.05, np.float32)
    probabilities[7] = 0.55
    assert task.encode(Item(None), {"probabilities": probabilities}) == {
        "digit": 7,
        "confidence": 0.55,
        "probabilities": {str(digit): 0.55 if digit == 7 else 0.05 for digit in range(10)},
    }


@pytest.mark.parametrize(("index", "label"), [(1, 7), (2, 1), (3, 4)])
@pytest.mark.parametrize("wish", [{}, {"add_noise": False}])
def test_a_sample_comes_with_its_label_and_image(task: Task, index: int, label: int, wish: dict[str, bool]) -> None:
    item = task.decode({"index": index, **wish})
    assert item.extra == {"label": label, "image": base64.b64encode(SMALL[index - 1]).decode()}
    assert item.array is not None
    np.testing.assert_array_equal(item.array, ink.load(SMALL[index - 1], 28))
    assert task.encode(item, {"probabilities": np.eye(10, dtype=np.float32)[3]})["label"] == label


def test_noise_is_in_what_is_shown_and_in_what_is_seen(task: Task) -> None:
    shown = []
    for _ in range(2):
        item = task.decode({"index": 1, "add_noise": True})
        data = base64.b64decode(item.extra["image"], validate=True)
        assert image.media_type(data) == "image/png"
        assert image.decode(data).shape == (28, 28, 3)
        assert item.array is not None
        np.testing.assert_array_equal(item.array, ink.load(data, 28))  # sent back, it gets the same answer
        shown.append(data)
    assert len({*shown, SMALL[0]}) == 3


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"index": 0}, "'index' must be a whole number from 1 to 3"),
        ({"index": 4}, "from 1 to 3"),
        ({"index": -1}, "from 1 to 3"),
        ({"index": True}, "from 1 to 3"),
        ({"index": 1.0}, "from 1 to 3"),
        ({"index": "1"}, "from 1 to 3"),
        ({"index": None}, "from 1 to 3"),
        ({"add_noise": True}, "from 1 to 3"),
        ({"index": 1, "add_noise": 1}, "'add_noise' must be true or false"),
        ({"index": 1, "add_noise": None}, "'add_noise' must be true or false"),
        ({"index": 1, "noise": True}, "unknown fields 'noise'; known: index, add_noise"),
        ({"index": 1, "data": "AAAA"}, "unknown fields 'data'"),
        ({}, "expected"),
        (encode(np.full((30, 30, 3), 200, np.uint8), "PNG"), "no ink"),
    ],
)
def test_wrong_requests(task: Task, instance: bytes | dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidContentError, match=message):
        task.decode(instance)


def test_without_samples() -> None:
    with pytest.raises(InvalidContentError, match="this model has no samples: send an image"):
        build_task(SPEC, None).decode({"index": 1})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, labels=tuple("123456789")), r"needs handler\.labels 0, 1"),
        (replace(SPEC, preprocessing="blur"), "preprocessing must be one of crop, ink, not 'blur'"),
        (replace(SPEC, samples="missing.json"), "missing.json is no file of samples"),
        (replace(SPEC, network=None), r"digit_recognition needs a handler\.network"),
    ],
)
def test_specs_that_do_not_suit(spec: HandlerSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_task(spec, None)
