"""What both models of movements share: requests, gathering, explanations, and what their specs must have."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers import behaviour, points
from handlers.errors import InvalidContentError, SpecError
from handlers.pipeline import Pipeline, Wish
from handlers.reply import Reply
from handlers.spec import HandlerSpec, NetworkSpec
from handlers.tasks import build_task
from handlers.trajectory import NAMES, features
from tests.handlers.movements import (
    FEATURES,
    REFERENCE,
    classifier,
    classifier_spec,
    detector,
    detector_spec,
    movement,
)

GIVEN = dict(zip(FEATURES, REFERENCE, strict=True))


def read(reply: Reply) -> Any:
    return json.loads(reply.body)


@pytest.fixture(params=[classifier, detector])
def pipeline(request: pytest.FixtureRequest, tmp_path: Path) -> Pipeline:
    load: Callable[[Path], Pipeline] = request.param
    return load(tmp_path)


def test_every_form_of_a_movement_gets_the_same_answer(pipeline: Pipeline) -> None:
    listed = movement()
    compact = {axis: [point[axis] for point in listed["points"]] for axis in points.AXES}
    values = features([points.read(listed)])[0]
    given = {name: float(values[NAMES.index(name)]) for name in reversed(FEATURES)}
    bodies = [
        listed,
        compact,
        {"features": given},
        {"features": [given[name] for name in FEATURES]},
        {"instances": [listed]},
    ]
    rows = [{"body": body} for body in bodies] + [{"data": json.dumps(listed).encode()}]
    replies = [read(reply) for reply in pipeline(rows)]
    replies[4] = replies[4]["predictions"][0]
    assert "error" not in replies[0]
    assert replies == [replies[0]] * 6


BAD: list[tuple[Any, str]] = [
    (b"\xff\xd8\xff\xe0 a photograph", "expected JSON"),
    (b"", "expected JSON"),
    ({}, "expected {"),
    ({"data": "AA=="}, "unknown fields 'data'"),
    (movement(5), "has 5 points"),
    ({"features": None}, "must be an object"),
    ({"features": [1, 2]}, "'features' has 2 numbers; the model takes"),
    ({"features": []}, "'features' has 0 numbers"),
    ({"features": [math.nan, *list(GIVEN.values())[1:]]}, "must be a finite number"),
    ({"features": ["1", *list(GIVEN.values())[1:]]}, "must be a finite number"),
    ({"features": GIVEN | {"x": 1}}, "unknown features 'x'"),
    ({"features": {"straightness": 1, "duration": 1, "net_turn": 1, "pauses": 0}}, "lacks 'mean_speed', 'path_length'"),
    ({"features": GIVEN | {"pauses": math.nan}}, "'pauses' must be a finite number"),
    ({"features": GIVEN | {"pauses": 1e39}}, "'pauses' must be a finite number"),
    ({"features": GIVEN | {"pauses": 10**400}}, "'pauses' must be a finite number"),
    ({"features": GIVEN | {"pauses": True}}, "'pauses' must be a finite number"),
    ({"features": GIVEN | {"pauses": "0"}}, "'pauses' must be a finite number"),
    ({"features": GIVEN, "pointer": "pen"}, "'pointer' must be one of"),
    ({"features": GIVEN} | movement(), "with 'features', only 'pointer' is accepted, not 'points'"),
    (movement() | {"explain": 1}, "'explain' must be true or false"),
    (movement() | {"explain": None}, "'explain' must be true or false"),
]


def test_bad_requests_between_good_ones(pipeline: Pipeline) -> None:
    """Each good one is answered as if it had come alone."""
    goods = [movement(20 + index, duration=500 + 40 * index) for index in range(len(BAD))]
    rows = [{"body": body} for good, (bad, _) in zip(goods, BAD, strict=True) for body in (good, bad)]
    replies = pipeline(rows)
    for index, (good, (_, message)) in enumerate(zip(goods, BAD, strict=True)):
        assert read(replies[2 * index]) == read(pipeline([{"body": good}])[0])
        assert int(replies[2 * index].status) == 200
        assert int(replies[2 * index + 1].status) == 422
        assert message in read(replies[2 * index + 1])["error"]["message"]


def test_extreme_features_are_answered(pipeline: Pipeline) -> None:
    largest = float(np.finfo(np.float32).max)
    for value in (largest, -largest, 0, 1e-45):
        (reply,) = pipeline([{"body": {"features": dict.fromkeys(FEATURES, value), "explain": True}}])
        assert reply.status in (200, 500)  # infinity times zero is the little network's
        assert reply.status == 200 or abs(value) == largest


def test_one_gathering_computes_all_features(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(trajectories: Any) -> Any:
        calls.append(len(trajectories))
        return features(trajectories)

    monkeypatch.setattr(behaviour, "features", counted)
    rows: list[dict[str, Any]] = [{"body": movement()}] * 40 + [{"body": {"features": GIVEN}}] * 2
    assert {int(reply.status) for reply in pipeline(rows)} == {200}
    assert calls == [32, 8]


def test_an_explanation(tmp_path: Path) -> None:
    """The little network looks at the duration alone: 1,000 ms here, 800 ms in a person's."""
    model = classifier(tmp_path)
    wishes: list[dict[str, Any]] = [{}, {"explain": True}, {"explain": False}]
    plain, explained, no = (read(reply) for reply in model([{"body": movement() | wish} for wish in wishes]))
    assert plain == no
    assert explained | {"explanation": ...} == plain | {"explanation": ...}
    first, *others = explained["explanation"]
    usual = 1 / (1 + math.exp(-1))
    assert first == {
        "feature": "duration",
        "value": 1000.0,
        "unit": "ms",
        "typical": 800.0,
        "weight": round(plain["score"] - usual, 4),
    }
    assert len(others) == behaviour.EXPLAINED - 1
    assert {one["weight"] for one in others} == {0.0}
    assert b"-0.0" not in model([{"body": movement() | {"explain": True}}])[0].body


def test_an_explanation_of_an_anomaly(tmp_path: Path) -> None:
    """What is typical depends on the pointer, and is shown in the feature's own unit."""
    model = detector(tmp_path)
    for pointer, typical in (("mouse", 999.0), ("touch", 99.0)):
        (reply,) = model([{"body": movement(duration=2000, pointer=pointer) | {"explain": True}}])
        first, second, *_ = read(reply)["explanation"]
        assert (first["feature"], first["unit"], first["value"]) == ("duration", "ms", 2000.0)
        assert first["typical"] == typical
        assert first["weight"] > abs(second["weight"]) > 0
        assert second["feature"] == "mean_speed"
        assert second["typical"] == pytest.approx(math.expm1(6), rel=1e-3)
        assert read(reply)["anomaly"] - first["weight"] == pytest.approx(0.5, abs=0.05)


def test_explanations_by_the_way_they_came(pipeline: Pipeline) -> None:
    instances = [movement(), 5, {"features": GIVEN}]
    bodies = [movement(), {"instances": instances}, movement(), movement() | {"explain": False}, b"\xff\xd8\xff"]
    replies = [
        read(reply) for reply in pipeline([{"body": body} for body in bodies], [Wish(), *[Wish(explain=True)] * 4])
    ]
    assert "explanation" not in replies[0]
    first, wrong, last = replies[1]["predictions"]
    assert first["explanation"] == replies[2]["explanation"] == replies[3]["explanation"]
    assert wrong["error"]["code"] == replies[4]["error"]["code"] == "invalid_content"
    assert len(last["explanation"]) == behaviour.EXPLAINED


def test_an_explanation_runs_in_the_networks_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier(tmp_path, chunk=4)
    assert model.network is not None
    run, sizes = model.network.run, []

    def counted(arrays: Any) -> Any:
        sizes.append(len(arrays))
        return run(arrays)

    monkeypatch.setattr(model.network, "run", counted)
    model([{"body": movement() | {"explain": True}}])
    assert sizes == [1, 4, 2]


def test_a_network_that_fails_on_an_explanation_costs_that_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier(tmp_path)
    assert model.network is not None
    run = model.network.run

    def failing(arrays: Any) -> Any:
        if len(arrays) == len(FEATURES):
            raise MemoryError
        return run(arrays)

    monkeypatch.setattr(model.network, "run", failing)
    replies = model([{"body": movement()}, {"body": movement() | {"explain": True}}, {"body": movement()}])
    assert [int(reply.status) for reply in replies] == [200, 500, 200]


NETWORK = NetworkSpec("model.onnx", (len(FEATURES),), "float32", ("human", "anomaly"))


@pytest.mark.parametrize("spec", [classifier_spec(), detector_spec()])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": None}, "needs a handler.network"),
        ({"network": replace(NETWORK, input_type="int64")}, "needs a network from float32"),
        ({"network": replace(NETWORK, input_shape=(7,))}, r"from float32 \[6\]"),
        ({"network": replace(NETWORK, outputs=("score",))}, "in handler.network.outputs"),
        ({"features": ()}, "needs handler.features, each once"),
        ({"features": ("jerk",) * 6}, "needs handler.features, each once"),
        ({"features": ("jerk", "Jerk")}, "unknown names: Jerk"),
    ],
)
def test_specs_that_do_not_suit(spec: HandlerSpec, change: dict[str, Any], message: str) -> None:
    build_task(replace(spec, network=NETWORK), None)
    with pytest.raises(SpecError, match=message):
        build_task(replace(spec, **change), None)


def test_the_base_has_no_typical_movement() -> None:
    with pytest.raises(NotImplementedError):
        behaviour.Behaviour(classifier_spec(), "human").typical("mouse")


@pytest.mark.parametrize("values", [(1.0,), (1.0, 1e39)])
def test_numbers_that_do_not_fit(values: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match="here must"):
        behaviour.checked(values, 2, "here")


def test_decoding_does_not_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(behaviour, "features")
    item = build_task(classifier_spec(), None).decode(movement())
    assert item.array is None
    with pytest.raises(InvalidContentError):
        build_task(classifier_spec(), None).decode(b"x")
