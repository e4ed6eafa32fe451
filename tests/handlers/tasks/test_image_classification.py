"""One image -> the probability of every label."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handlers import image
from handlers.errors import InvalidContentError, SpecError, TooLargeError
from handlers.pool import Pool
from handlers.spec import HandlerSpec, LimitsSpec, NetworkSpec
from handlers.tasks import Item, build_task
from tests.handlers.pools import write_pool
from tests.images import encode, photo

NETWORK = NetworkSpec("model.onnx", (16, 16, 3))
SPEC = HandlerSpec("image_classification", ("cat", "dog", "key"), NETWORK)
DATA = encode(photo(40, 60), "JPEG")


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(write_pool(tmp_path / "pool", {"red": 4, "blue": 4}))


def test_decode_gives_what_the_network_takes() -> None:
    task = build_task(SPEC, None)
    expected = image.load(DATA, 16)
    for instance in (DATA, {"data": base64.b64encode(DATA).decode()}, {"b64": base64.b64encode(DATA).decode()}):
        item = task.decode(instance)
        assert item.array is not None
        np.testing.assert_array_equal(item.array, expected)
        assert item.extra == {}


def test_encode_names_every_label() -> None:
    reply = build_task(SPEC, None).encode(
        Item(None, {"image": "x"}), {"probabilities": np.array([0.25, 0.6666667, 0.0833333], np.float32)}
    )
    assert reply == {
        "label": "dog",
        "confidence": 0.666667,
        "probabilities": {"cat": 0.25, "dog": 0.666667, "key": 0.083333},
        "image": "x",
    }


def test_the_spec_limits_what_is_decoded() -> None:
    task = build_task(replace(SPEC, limits=LimitsSpec(max_bytes=len(DATA) - 1)), None)
    with pytest.raises(TooLargeError, match="bytes"):
        task.decode(DATA)
    task = build_task(replace(SPEC, limits=LimitsSpec(max_pixels=2399)), None)
    with pytest.raises(TooLargeError, match="60x40"):
        task.decode({"data": base64.b64encode(DATA).decode()})


def test_a_random_image_is_disguised_and_sent_along(pool: Pool) -> None:
    task = build_task(SPEC, pool)
    stored = {image.read() for group in pool.counts for image in pool.draw(group, 4)}
    ids = set()
    for group in ("red", "blue") * 5:
        item = task.decode({"random": True, "group": group})
        served = item.extra["image"]
        shown = base64.b64decode(served["data"], validate=True)
        assert set(served) == {"id", "data", "group"}
        assert served["group"] == group
        assert shown not in stored
        assert b"secret" not in shown
        with Image.open(io.BytesIO(shown)) as opened:
            assert not opened.getexif()
            red, _, blue = np.asarray(opened)[90:110, 90:110].mean(axis=(0, 1))
        assert (red > blue) == (group == "red")
        assert item.array is not None
        np.testing.assert_array_equal(item.array, image.load(shown, 16))  # the network sees what the client sees
        ids.add(served["id"])
        reply = task.encode(item, {"probabilities": np.array([1, 0, 0], np.float32)})
        assert reply["image"] == served
    assert len(ids) == 10
    assert {task.decode({"random": True}).extra["image"]["group"] for _ in range(40)} == {"red", "blue"}


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"random": False}, "expected"),
        ({"random": 1}, "expected"),
        ({"random": "true"}, "expected"),
        ({"random": None}, "expected"),
        ({"random": True, "data": "AA=="}, "expected"),
        ({"random": True, "count": 2}, "expected"),
        ({"random": True, "group": "green"}, "'group' must be one of blue, red"),
        ({"random": True, "group": ["red"]}, "'group' must be one of blue, red"),
        ({}, "expected"),
        ({"data": 5}, "expected"),
    ],
)
def test_wrong_requests(pool: Pool, instance: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidContentError, match=message):
        build_task(SPEC, pool).decode(instance)


def test_random_without_a_pool() -> None:
    with pytest.raises(InvalidContentError, match="needs a pool"):
        build_task(SPEC, None).decode({"random": True})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, network=None), r"needs a handler\.network"),
        (replace(SPEC, network=replace(NETWORK, input_shape=(16, 17, 3))), "input_shape"),
        (replace(SPEC, network=replace(NETWORK, input_shape=(3, 16, 16))), "input_shape"),
        (replace(SPEC, network=replace(NETWORK, input_shape=(16, 16))), "input_shape"),
        (replace(SPEC, network=replace(NETWORK, input_type="float32")), "uint8"),
        (replace(SPEC, network=replace(NETWORK, outputs=("probabilities", "x"))), "probabilities"),
        (replace(SPEC, labels=("cat",)), "two handler.labels"),
        (replace(SPEC, labels=("cat", "dog", "cat")), "each once"),
    ],
)
def test_specs_that_do_not_suit(spec: HandlerSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_task(spec, None)
