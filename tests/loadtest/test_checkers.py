"""Checkers: good replies pass, wrong ones do not, and nothing that a server can send breaks them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.checkers import CHECKERS, check_reply
from tests.loadtest.replies import CLASSIFIED, JPEG, challenge, encoded

KINDS = sorted(CHECKERS)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
fields = st.sampled_from(
    [
        "label",
        "confidence",
        "probabilities",
        "images",
        "predictions",
        "error",
        "data",
        "group",
        "embedding",
        "dim",
        "top",
    ]
)


def check(kind: str, body: object, request: bytes = b"", status: int = 200) -> str:
    return check_reply(kind, request, encoded(body), status)


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.binary(), st.binary(), st.sampled_from([200, 404, 503]))
def test_any_bytes_give_an_answer(kind: str, request: bytes, content: bytes, status: int) -> None:
    assert check_reply(kind, request, content, status) or status == 200


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.dictionaries(fields, json_values), json_values)
def test_any_object_gives_an_answer(kind: str, body: dict[str, Any], request: Any) -> None:
    reason = check(kind, body, encoded(request))
    assert reason or "error" not in body or isinstance(body.get("predictions"), list)


def test_deep_nesting_is_a_failure() -> None:
    assert check_reply("any", b"", b'{"a":' * 100_000, 200)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"is_valid": False}, ""),
        ({"has_drink": None, "is_valid": False}, ""),
        ({"has_drink": None}, "'is_valid' of no answer"),
        ({"has_drink": "yes"}, "not one answer that is true, false or null"),
        ({"other": True}, "not one answer that is true, false or null"),
        ({"is_valid": None}, "'is_valid' is neither true nor false"),
        ({"message": ""}, "no 'message'"),
        ({"predicted_class": "empty"}, "'predicted_class' is not the most probable one"),
        ({"predicted_class": "full"}, "'predicted_class' is not among the probabilities"),
        ({"confidence": 0.5}, "'confidence' is not the largest probability"),
    ],
)
def test_answers_to_a_question(changes: dict[str, Any], reason: str) -> None:
    body = {"has_drink": True, "confidence": 0.75, "predicted_class": "drink", "message": "There is one."}
    body |= {"probabilities": {"drink": 0.75, "empty": 0.25}}
    assert check("yes_no", body) == ""
    assert check("yes_no", body | {"is_valid": True} | changes) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"digit": 3}, "'digit' is not the most probable one"),
        ({"digit": 12}, "'digit' is not among the probabilities"),
        ({"digit": "4"}, "'digit' is no whole number"),
        ({"digit": True}, "'digit' is no whole number"),
        ({"confidence": 0.5}, "'confidence' is not the largest probability"),
    ],
)
def test_digits(changes: dict[str, Any], reason: str) -> None:
    probabilities = {str(digit): 0.91 if digit == 4 else 0.01 for digit in range(10)}
    body = {"digit": 4, "confidence": 0.91, "probabilities": probabilities, "label": 9} | changes
    assert check("digit_recognition", body) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"label": "mould"}, "'label' is not the first of 'top'"),
        ({"label": None}, "'label' is not the first of 'top'"),
        ({"confidence": 0.5}, "'confidence' is not the first probability of 'top'"),
        ({"agreement": 1.5}, "'agreement' is no number from 0 to 1"),
        ({"agreement": None}, "'agreement' is no number from 0 to 1"),
        ({"top": []}, "no list of labels in 'top'"),
        ({"top": [1]}, "no list of labels in 'top'"),
        ({"top": [{"label": "tear"}]}, "the probabilities in 'top' are none"),
        ({"top": [{"label": "tear", "probability": 0.6}] * 2}, "the probabilities in 'top' are none"),
        (
            {"top": [{"label": "tear", "probability": 0.1}, {"label": "mould", "probability": 0.6}]},
            "'top' does not begin with the most probable label",
        ),
    ],
)
def test_ensembles(changes: dict[str, Any], reason: str) -> None:
    top = [{"label": "tear", "probability": 0.6}, {"label": "mould", "probability": 0.3}]
    body = {"label": "tear", "confidence": 0.6, "top": top, "agreement": 0.666667} | changes
    assert check("ensemble_classification", body) == reason


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50).filter(any))
def test_right_classifications_pass_and_shifted_ones_do_not(weights: list[int]) -> None:
    shares = {f"label {n}": round(weight / sum(weights), 6) for n, weight in enumerate(weights)}
    best = max(shares, key=lambda label: shares[label])
    body = {"label": best, "confidence": shares[best], "probabilities": shares}
    assert check("image_classification", body) == ""
    assert check("image_classification", {**body, "confidence": shares[best] / 2})
    assert check("image_classification", {**body, "label": "another"})
    assert check("image_classification", {**body, "probabilities": {**shares, "extra": 0.01}})
    assert check("image_classification", {**body, "probabilities": {**shares, "extra": float("nan")}})


@pytest.mark.parametrize(
    "change",
    [
        {"label": "object"},
        {"label": ["animal"]},
        {"label": None},
        {"confidence": True},
        {"confidence": "0.75"},
        {"probabilities": {}},
        {"probabilities": [0.75, 0.25]},
        {"probabilities": {"animal": 1.75, "object": -0.75}},
        {"probabilities": {"animal": "0.75", "object": 0.25}},
        {"probabilities": {"animal": float("inf"), "object": 0.25}},
        {"error": {"code": "internal", "message": "no"}},
        {"error": None},
    ],
)
def test_wrong_classifications_do_not_pass(change: dict[str, Any]) -> None:
    assert check("image_classification", CLASSIFIED) == ""
    assert check("image_classification", {**CLASSIFIED, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"embedding": [0.6, 0.81]},
        {"embedding": [0.6, "0.8"]},
        {"embedding": [0.6, None]},
        {"embedding": [True, 0]},
        {"embedding": [1e308, 1e308]},
        {"embedding": [float("nan"), 1]},
        {"embedding": "0.6, 0.8"},
        {"dim": 3},
        {"dim": "2"},
        {"dim": None},
        {"embedding": [1], "dim": True},
    ],
)
def test_an_embedding_has_length_1(change: dict[str, Any]) -> None:
    embedded = {"embedding": [0.6, -0.8], "dim": 2}
    assert check("image_embedding", embedded) == ""
    assert check("image_embedding", embedded | change)


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2), st.integers(0, 12))
def test_a_challenge_has_what_was_asked_for(left: int, right: int, other: int, count: int) -> None:
    groups = ["animal"] * left + ["object"] * right + ["plant"] * other
    sides = [number for number in (left, right, other) if number]
    good = len(groups) == count and len(sides) == 2 and min(sides) >= 2
    request = encoded({"kind": "drag_drop", "count": count})
    assert (check("random_images", challenge(*groups), request) == "") == good


@pytest.mark.parametrize("request_body", [b'{"kind": "drag_drop"}', b'{"count": Infinity}', b"[]", b"[" * 100_000])
def test_a_challenge_that_does_not_say_how_many_has_six(request_body: bytes) -> None:
    groups = ["animal"] * 3 + ["object"] * 3
    assert check("random_images", challenge(*groups), request_body) == ""
    assert check("random_images", challenge(*groups[1:]), request_body)


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff cut short", b"\x89PNG\xff\xd9"])
def test_a_challenge_holds_jpeg_images(data: bytes) -> None:
    body = challenge(*["animal", "object"] * 3, data=data)
    assert check("random_images", body) == "an image is no JPEG in base64"


@pytest.mark.parametrize("text", [None, 5, ["x"], "no base64!", "é"])
def test_a_challenge_holds_base64(text: Any) -> None:
    body = challenge(*["animal", "object"] * 3)
    body["images"][0]["data"] = text
    assert check("random_images", body) == "an image is no JPEG in base64"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"image": None}, "'image' is no JPEG in base64"),
        ({"faces": []}, "no list of boxes in 'faces'"),
        ({"faces": [[1, 2, 3]]}, "no list of boxes in 'faces'"),
        ({"faces": [[1, 2, 0, 4]]}, "no list of boxes in 'faces'"),
        ({"faces": [[1, 2, 3.0, 4]]}, "no list of boxes in 'faces'"),
        ({"faces": [[-1, 2, 3, 4]]}, "no list of boxes in 'faces'"),
    ],
)
def test_boxes_of_faces(changes: dict[str, Any], reason: str) -> None:
    body = {"faces": [[0, 2, 30, 40]], "media_type": "image/jpeg", "image": base64.b64encode(JPEG).decode()}
    assert check("face_mosaic", body | changes) == reason
    del body["image"]
    assert check("face_mosaic", body) == ""


@pytest.mark.parametrize("kind", ["face_mosaic", "any"])
def test_images_are_whole(kind: str) -> None:
    png = b"\x89PNG\r\n\x1a\n...IEND\xaeB`\x82"
    assert check_reply(kind, b"", JPEG, 200, "image/jpeg") == ""
    assert check_reply(kind, b"", png, 200, "image/png") == ""
    for content, media_type in (
        (JPEG[:-1], "image/jpeg"),
        (png[:-1], "image/png"),
        (png, "image/jpeg"),
        (b"", "image/gif"),
    ):
        assert check_reply(kind, b"", content, 200, media_type)
    assert check_reply("image_classification", b"", JPEG, 200, "image/jpeg")
    assert check_reply(kind, b"", JPEG, 500, "image/jpeg")


def test_every_instance_of_a_request_counts() -> None:
    error = {"error": {"code": "undecodable", "message": "no"}}
    assert check("image_classification", {"predictions": [CLASSIFIED, CLASSIFIED]}) == ""
    assert check("image_classification", {"predictions": [CLASSIFIED, error]})
    assert check("image_classification", {"predictions": [CLASSIFIED, {}]})
    assert check("any", {"predictions": [1]})


def test_a_status_is_a_failure_whatever_the_body() -> None:
    assert check("any", CLASSIFIED) == ""
    assert check("any", CLASSIFIED, status=503).startswith("503")
    assert check("any", [CLASSIFIED])


@pytest.mark.parametrize(
    ("kind", "body", "right"),
    [
        ("trajectory_classification", {"label": "human", "score": 0.5, "threshold": 0.5}, True),
        ("trajectory_classification", {"label": "bot", "score": 0.49, "threshold": 0.5}, True),
        ("trajectory_classification", {"label": "human", "score": 0.49, "threshold": 0.5}, False),
        ("trajectory_classification", {"label": "human", "score": True, "threshold": 0.5}, False),
        ("trajectory_classification", {"label": "human", "score": 1.2, "threshold": 0.5}, False),
        ("trajectory_anomaly", {"anomaly": 0.95, "flagged": False, "threshold": 0.95}, True),
        ("trajectory_anomaly", {"anomaly": 0.96, "flagged": True, "threshold": 0.95}, True),
        ("trajectory_anomaly", {"anomaly": 0.96, "flagged": False, "threshold": 0.95}, False),
        ("trajectory_anomaly", {"anomaly": 0.96, "flagged": 1, "threshold": 0.95}, False),
        ("trajectory_anomaly", {"anomaly": "0.96", "flagged": True, "threshold": 0.95}, False),
    ],
)
def test_verdicts_on_movements_follow_from_their_scores(kind: str, body: dict[str, Any], right: bool) -> None:
    assert (check(kind, body) == "") == right
