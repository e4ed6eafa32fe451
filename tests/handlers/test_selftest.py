"""A worker asks its model what was recorded, and does not serve one that answers otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from handlers.entry import Handler
from handlers.errors import SpecError
from handlers.loaders import LOADERS
from handlers.pipeline import Pipeline
from handlers.selftest import ask, replay
from handlers.spec import HandlerSpec, NetworkSpec, read_spec
from tests.handlers.movements import classifier, movement
from tests.handlers.networks import LABELS, SIDE, write_classifier, write_digests
from tests.handlers.pools import write_pool
from tests.handlers.test_entry import CONFIG, context_of
from tests.images import encode

REDDISH = encode(np.full((9, 12, 3), (140, 120, 130), np.uint8), "PNG")
SPEC = HandlerSpec("image_classification", LABELS, NetworkSpec("model.onnx", (SIDE, SIDE, 3)))


def record(folder: Path, *cases: dict[str, Any], tolerance: float = 0.02) -> None:
    (folder / "selftest.json").write_text(json.dumps({"tolerance": tolerance, "cases": cases}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An archive of colours with a self-test that its network passes."""
    write_classifier(tmp_path / "model.onnx")
    (tmp_path / "reddish.png").write_bytes(REDDISH)
    record(tmp_path, {"file": "reddish.png", "answer": ask(Pipeline.load(tmp_path, SPEC), REDDISH)})
    write_digests(tmp_path)
    return tmp_path


def test_the_model_that_was_recorded(folder: Path) -> None:
    assert replay(folder, Pipeline.load(folder, SPEC)) == 1
    Handler().initialize(context_of(folder))
    (folder / "selftest.json").unlink()
    assert replay(folder, Pipeline.load(folder, SPEC)) == 0


def test_another_network_is_not_served(folder: Path) -> None:
    """Same file name, inputs and outputs, and digests that match."""
    network = onnx.load(folder / "model.onnx")
    scale = next(tensor for tensor in network.graph.initializer if tensor.name == "scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.array(0.05, np.float32), "scale"))
    onnx.save(network, folder / "model.onnx")
    write_digests(folder)
    with pytest.raises(
        SpecError, match=r"the self-test fails: the answer to reddish\.png has confidence 0\.\d+ instead of"
    ):
        Handler().initialize(context_of(folder))


def test_other_labels_are_not_served(folder: Path) -> None:
    config = {"handler": CONFIG["handler"] | {"labels": ["green", "red", "blue"]}}
    with pytest.raises(SpecError, match=r'has label "green" instead of "red"'):
        Handler().initialize(context_of(folder, config))


def test_other_preprocessing_is_not_served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = LOADERS["crop"]
    monkeypatch.setitem(LOADERS, "crop", lambda *args: np.ascontiguousarray(load(*args)[..., ::-1]))  # BGR
    with pytest.raises(SpecError, match=r"the self-test fails"):
        replay(folder, Pipeline.load(folder, SPEC))


def test_digits_may_differ(folder: Path) -> None:
    answer = ask(Pipeline.load(folder, SPEC), REDDISH)
    for change, passes in ((0.019, True), (0.021, False)):
        record(folder, {"file": "reddish.png", "answer": answer | {"confidence": answer["confidence"] + change}})
        if passes:
            assert replay(folder, Pipeline.load(folder, SPEC)) == 1
        else:
            with pytest.raises(SpecError, match=r"confidence .* give or take 0\.02"):
                replay(folder, Pipeline.load(folder, SPEC))


def test_a_refusal_is_no_answer(folder: Path) -> None:
    record(folder, {"json": {"data": "AAAA"}, "answer": {}})
    with pytest.raises(SpecError, match="the self-test fails: 415 expected a JPEG"):
        replay(folder, Pipeline.load(folder, SPEC))


def test_requests_in_json(tmp_path: Path) -> None:
    pipeline = classifier(tmp_path)
    record(tmp_path, {"json": movement(), "answer": ask(pipeline, json.dumps(movement()).encode())})
    assert replay(tmp_path, pipeline) == 1


def test_a_model_that_draws_lots_is_held_to_its_form(tmp_path: Path) -> None:
    write_pool(tmp_path / "pool", {"red": 3, "blue": 3})
    pipeline = Pipeline.load(tmp_path, read_spec({"handler": {"task": "random_images"}}), pool=tmp_path / "pool")
    request = {"kind": "drag_drop", "count": 4}
    assert pipeline.form is not None
    record(tmp_path, {"json": request, "form": pipeline.form})
    assert replay(tmp_path, pipeline) == 1
    record(tmp_path, {"json": request, "form": {**pipeline.form, "kind": "number"}})
    with pytest.raises(SpecError, match='the answer to its request has kind "drag_drop" instead of "number"'):
        replay(tmp_path, pipeline)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "{}", '{"tolerance": 0, "cases": 1}', '{"tolerance": 0, "cases": [1]}',
     '{"tolerance": 0, "cases": [{"file": "reddish.png"}]}', '{"tolerance": 0, "cases": [{"answer": {}}]}',
     '{"tolerance": 0, "cases": [{"file": "no.png", "answer": {}}]}',],
)  # fmt: skip
def test_a_damaged_file_is_told(content: str, folder: Path) -> None:
    (folder / "selftest.json").write_text(content)
    with pytest.raises(SpecError, match=r"selftest"):
        replay(folder, Pipeline.load(folder, SPEC))
