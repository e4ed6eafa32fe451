"""One image -> the likeliest labels, and how many of the networks agree."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handlers.errors import SpecError
from handlers.pipeline import Pipeline
from handlers.spec import HandlerSpec, NetworkSpec
from handlers.tasks import Item, build_task
from tests.handlers.networks import LABELS, SIDE, write_ensemble
from tests.images import encode

NETWORK = NetworkSpec("model.onnx", (SIDE, SIDE, 3), outputs=("probabilities", "members"))
SPEC = HandlerSpec("ensemble_classification", LABELS, NETWORK)
PURPLE = encode(np.full((9, 9, 3), (200, 20, 180), np.uint8), "PNG")


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """Two networks that see red in purple, and one that sees blue."""
    write_ensemble(tmp_path / "model.onnx", [(20, 20, 20), (10, 1, 1), (1, 1, 9)])
    return Pipeline.load(tmp_path, SPEC)


def test_the_reply(pipeline: Pipeline) -> None:
    colour = np.array([200, 20, 180]) / 255
    logits = np.array([(20, 20, 20), (10, 1, 1), (1, 1, 9)]) * colour
    each = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = each.mean(axis=0)
    (reply,) = pipeline([{"body": PURPLE}])
    body = json.loads(reply.body)
    assert (reply.status, list(body)) == (200, ["label", "confidence", "top", "agreement"])
    assert [entry["label"] for entry in body["top"]] == ["red", "blue", "green"]
    assert [entry["probability"] for entry in body["top"]] == pytest.approx(sorted(mean, reverse=True), abs=1e-6)
    assert (body["label"], body["confidence"]) == ("red", body["top"][0]["probability"])
    assert body["agreement"] == 0.666667
    (again,) = pipeline([{"body": json.dumps({"data": base64.b64encode(PURPLE).decode()}).encode()}])
    assert again.body == reply.body


def test_five_labels_at_most() -> None:
    spec = replace(SPEC, labels=tuple("abcdefg"))
    shares = np.array([0.05, 0.3, 0.05, 0.2, 0.15, 0.1, 0.15], np.float32)
    reply = build_task(spec, None).encode(Item(None), {"probabilities": shares, "members": shares[None]})
    assert [entry["label"] for entry in reply["top"]] == ["b", "d", "e", "g", "f"]
    assert reply["agreement"] == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, network=None), r"ensemble_classification needs a handler\.network"),
        (replace(SPEC, labels=("red",)), "at least two handler.labels, each once"),
        (replace(SPEC, labels=("red", "red", "blue")), "at least two handler.labels, each once"),
        (replace(SPEC, network=replace(NETWORK, outputs=("probabilities",))), "to 'probabilities' and 'members'"),
    ],
)
def test_specs_that_do_not_suit(spec: HandlerSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_task(spec, None)
