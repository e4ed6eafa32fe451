"""One image -> the answer to a question: yes, no, or neither."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers import image
from handlers.entry import Handler
from handlers.errors import InvalidContentError, SpecError
from handlers.pipeline import Pipeline
from handlers.spec import HandlerSpec, NetworkSpec, QuestionSpec
from handlers.tasks import Item, build_task
from tests.handlers.networks import LABELS, SIDE, write_classifier, write_digests
from tests.handlers.test_entry import context_of, settings_of_the_process
from tests.images import encode

__all__ = ["settings_of_the_process"]

ANSWERS: Mapping[str, bool | None] = {"red": True, "green": False, "blue": None}
MESSAGES = {"red": "It is red.", "green": "It is green.", "blue": "Neither."}
QUESTION = QuestionSpec("is_red", ANSWERS, MESSAGES, 0.7, "Not sure.")
PLAIN = replace(QUESTION, confidence_threshold=None, unsure="")
SPEC = HandlerSpec("yes_no", LABELS, NetworkSpec("model.onnx", (SIDE, SIDE, 3)), question=QUESTION)


def picture(colour: tuple[int, int, int]) -> bytes:
    return encode(np.full((9, 9, 3), colour, np.uint8), "PNG")


RED, BLUE = picture((200, 0, 0)), picture((0, 0, 200))
REDDISH = picture((120, 100, 0))  # 0.83 red


def reply(probabilities: list[float], question: QuestionSpec = QUESTION, **extra: Any) -> dict[str, Any]:
    item = Item(None, extra)
    return build_task(replace(SPEC, question=question), None).encode(item, {"probabilities": np.array(probabilities)})


def test_yes_no_and_neither() -> None:
    assert list(reply([0.8, 0.1, 0.1]).items()) == [
        ("is_red", True),
        ("confidence", 0.8),
        ("predicted_class", "red"),
        ("is_valid", True),
        ("probabilities", {"red": 0.8, "green": 0.1, "blue": 0.1}),
        ("message", "It is red."),
    ]
    no, neither = reply([0.1, 0.9, 0.0]), reply([0.1, 0.1, 0.8])
    assert (no["is_red"], no["is_valid"], no["message"]) == (False, True, "It is green.")
    assert (neither["is_red"], neither["is_valid"], neither["message"]) == (None, False, "Neither.")


@pytest.mark.parametrize(("confidence", "valid"), [(0.7, True), (0.6999996, True), (0.699999, False), (0.4, False)])
def test_what_is_shown_decides(confidence: float, valid: bool) -> None:
    """The reply rounds to six decimals, and a client compares what it sees."""
    rest = (1 - confidence) / 2
    found = reply([confidence, rest, rest])
    assert (found["is_valid"], found["is_red"]) == (valid, True)
    assert found["message"] == ("It is red." if valid else "Not sure.")


def test_the_requests_own_threshold() -> None:
    assert reply([0.5, 0.3, 0.2], confidence_threshold=0.5)["is_valid"]
    assert not reply([0.9, 0.1, 0.0], confidence_threshold=0.95)["is_valid"]
    assert not reply([0.1, 0.1, 0.8], confidence_threshold=0.0)["is_valid"]


def test_without_a_threshold_nothing_is_said_of_validity() -> None:
    assert list(reply([0.4, 0.3, 0.3], PLAIN)) == [
        "is_red",
        "confidence",
        "predicted_class",
        "probabilities",
        "message",
    ]
    task = build_task(replace(SPEC, question=PLAIN), None)
    assert task.options == {}
    with pytest.raises(InvalidContentError, match="unknown fields 'confidence_threshold'; known: data"):
        task.decode({"data": "", "confidence_threshold": 0.5})


def test_decode_gives_what_the_network_takes() -> None:
    task = build_task(SPEC, None)
    encoded = base64.b64encode(RED).decode()
    with_threshold = {"b64": encoded, "confidence_threshold": 0.5}
    for instance in (RED, {"data": RED}, {"data": encoded}, with_threshold):
        item = task.decode(instance)
        assert item.array is not None
        np.testing.assert_array_equal(item.array, image.load(RED, SIDE))
        assert item.extra == ({"confidence_threshold": 0.5} if instance == with_threshold else {})
    with pytest.raises(InvalidContentError, match="unknown fields 'treshold'; known: data, confidence_threshold"):
        task.decode({"data": encoded, "treshold": 0.5})


def test_a_batch_keeps_every_requests_own_threshold(tmp_path: Path) -> None:
    write_classifier(tmp_path / "model.onnx")
    pipeline = Pipeline.load(tmp_path, SPEC)
    encoded = base64.b64encode(REDDISH).decode()
    several = [{"data": encoded, "confidence_threshold": t} for t in (0.8, 0.9, "0.8", None)] + [{"data": encoded}]
    rows: list[dict[str, Any]] = [
        {"body": REDDISH},
        {"data": REDDISH, "confidence_threshold": b"0.9"},
        {"data": REDDISH, "confidence_threshold": b"0.8"},
        {"body": {"data": encoded, "confidence_threshold": 0.9}},
        {"data": REDDISH, "confidence_threshold": b"1.5"},
        {"body": {"instances": several}, "confidence_threshold": b"0.9"},
    ]
    replies = pipeline(rows)
    assert [one.status for one in replies] == [200, 200, 200, 200, 422, 200]
    bodies = [json.loads(one.body) for one in replies]
    assert [body.get("is_valid") for body in bodies[:4]] == [True, False, True, False]
    assert bodies[4]["error"]["message"] == "'confidence_threshold' must be a number from 0 to 1, as in 0.7"
    predictions = bodies[5]["predictions"]
    assert [one.get("is_valid") for one in predictions] == [True, False, None, None, False]
    assert [one.get("error", {}).get("code") for one in predictions[2:4]] == ["invalid_content"] * 2


def test_a_header_sets_it_too(tmp_path: Path) -> None:
    from ts.context import RequestProcessor

    write_classifier(tmp_path / "model.onnx")
    write_digests(tmp_path)
    question = {"field": "is_red", "answers": ANSWERS, "messages": MESSAGES, "confidence_threshold": 0.7, "unsure": "?"}
    network = {"file": "model.onnx", "input_shape": [SIDE, SIDE, 3]}
    config = {"handler": {"task": "yes_no", "labels": list(LABELS), "network": network, "question": question}}
    handler, context = Handler(), context_of(tmp_path, config)
    handler.initialize(context)
    headers: list[dict[str, Any]] = [{"X-Confidence-Threshold": "0.9"}, {"x-confidence-threshold": "0.8"}, {}]
    headers += [{"X-Confidence-Threshold": "0.9"}, {"x-confidence-threshold": "much"}]
    context.request_processor = list(map(RequestProcessor, headers))
    rows = [{"body": REDDISH}] * 3 + [{"data": REDDISH, "confidence_threshold": b"0.8"}, {"body": REDDISH}]
    replies = [json.loads(body) for body in handler.handle(rows, context)]
    assert [one.get("is_valid") for one in replies] == [False, True, True, True, None]
    assert replies[4]["error"]["message"].startswith("'confidence_threshold' must be a number")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, question=None), r"needs a handler\.question"),
        (replace(SPEC, network=None), r"needs a handler\.network"),
        (replace(SPEC, labels=("red", "green")), r"every one of handler\.labels: red, green, not red, green, blue"),
        (replace(SPEC, labels=("red", "green", "blue", "red")), r"every one of handler\.labels"),
    ],
)
def test_specs_that_do_not_suit(spec: HandlerSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_task(spec, None)
