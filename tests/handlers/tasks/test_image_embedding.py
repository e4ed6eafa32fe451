"""One image -> a vector of length 1."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handlers import image
from handlers.errors import InvalidContentError, SpecError, TooLargeError
from handlers.pipeline import Pipeline
from handlers.spec import HandlerSpec, LimitsSpec, NetworkSpec
from handlers.tasks import Item, build_task
from tests.handlers.networks import SIDE, write_embedding
from tests.images import encode, photo

NETWORK = NetworkSpec("model.onnx", (SIDE, SIDE, 3), outputs=("embedding",))
SPEC = HandlerSpec("image_embedding", network=NETWORK)
DATA = encode(photo(40, 60), "JPEG")
BLACK = encode(np.zeros((9, 9, 3), np.uint8), "PNG")


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    write_embedding(tmp_path / "model.onnx")
    return Pipeline.load(tmp_path, SPEC)


def test_decode_gives_what_the_network_takes() -> None:
    task = build_task(SPEC, None)
    for instance in (DATA, {"data": base64.b64encode(DATA).decode()}, {"b64": base64.b64encode(DATA).decode()}):
        item = task.decode(instance)
        assert item.array is not None
        np.testing.assert_array_equal(item.array, image.load(DATA, SIDE))


def test_the_reply_gives_every_float_back_in_few_digits(pipeline: Pipeline) -> None:
    (reply,) = pipeline([{"body": DATA}])
    body = json.loads(reply.body)
    assert (reply.status, list(body), body["dim"]) == (200, ["embedding", "dim"], 3)
    mean = image.load(DATA, SIDE).astype(float).mean(axis=(0, 1))
    np.testing.assert_allclose(body["embedding"], mean / np.linalg.norm(mean), atol=1e-6)
    (answer,) = pipeline.answer([DATA])
    assert isinstance(answer, dict)
    np.testing.assert_array_equal(np.array(body["embedding"], np.float32), answer["embedding"])
    assert reply.body.split(b"[")[1].split(b"]")[0].split(b",") == [str(v).encode() for v in answer["embedding"]]


def test_every_instance_has_its_own(pipeline: Pipeline) -> None:
    text = base64.b64encode(DATA).decode()
    (reply,) = pipeline([{"body": {"instances": [text, "!", {"random": True}, {"data": text}]}}])
    first, second, third, last = json.loads(reply.body)["predictions"]
    assert first == last
    assert [one["error"]["code"] for one in (second, third)] == ["undecodable", "invalid_content"]


def test_what_is_no_number_is_no_answer(pipeline: Pipeline) -> None:
    """And costs that item alone."""
    good, bad = pipeline([{"body": DATA}, {"body": BLACK}])
    assert (good.status, bad.status) == (200, 500)
    assert json.loads(bad.body)["error"]["code"] == "internal"


def test_what_it_does_not_take() -> None:
    with pytest.raises(InvalidContentError, match="expected"):
        build_task(SPEC, None).decode({"random": True})
    with pytest.raises(TooLargeError, match="60x40"):
        build_task(replace(SPEC, limits=LimitsSpec(max_pixels=2399)), None).decode(DATA)
    with pytest.raises(InvalidContentError, match="does not explain"):
        build_task(SPEC, None).explain(Item(None), {}, lambda _: [])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, network=None), r"image_embedding needs a handler\.network"),
        (replace(SPEC, network=replace(NETWORK, input_shape=(16, 17, 3))), "input_shape"),
        (replace(SPEC, network=replace(NETWORK, input_type="float32")), "from uint8 pixels to 'embedding'"),
        (replace(SPEC, network=replace(NETWORK, outputs=("probabilities",))), "to 'embedding'"),
    ],
)
def test_specs_that_do_not_suit(spec: HandlerSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_task(spec, None)
