"""Batches: an answer each, in order, and one item's failure costs that item alone."""

from __future__ import annotations

import base64
import functools
import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.errors import InvalidContentError, SpecError
from handlers.pipeline import Pipeline, Wish
from handlers.reply import Reply
from handlers.runner import Bound
from handlers.spec import HandlerSpec, NetworkSpec
from handlers.tasks import Item
from handlers.tasks.image_classification import ImageClassification
from tests.handlers.movements import classifier, classifier_spec, movement
from tests.handlers.networks import LABELS, SIDE, write_classifier
from tests.handlers.pools import write_pool
from tests.images import encode

SPEC = HandlerSpec("image_classification", LABELS, NetworkSpec("model.onnx", (SIDE, SIDE, 3), chunk=4))


def picture(label: str, kind: str = "PNG") -> bytes:
    pixels = np.zeros((12, 16, 3), np.uint8)
    pixels[..., LABELS.index(label)] = 200
    return encode(pixels, kind)


@pytest.fixture(params=[1, 3])
def pipeline(tmp_path: Path, request: pytest.FixtureRequest) -> Pipeline:
    """Whatever is promised holds with several decoding threads too."""
    write_classifier(tmp_path / "model.onnx", breaks_above=0.9)
    return Pipeline.load(tmp_path, replace(SPEC, decode_threads=request.param))


def with_threads(folder: Path, threads: int, chunk: int = 4) -> Pipeline:
    write_classifier(folder / "model.onnx")
    network = NetworkSpec("model.onnx", (SIDE, SIDE, 3), chunk=chunk)
    return Pipeline.load(folder, HandlerSpec("image_classification", LABELS, network, decode_threads=threads))


def read(reply: Reply) -> Any:
    def refuse(name: str) -> NoReturn:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(reply.body.decode("utf-8"), parse_constant=refuse)


def code(reply: Reply) -> str:
    body = read(reply)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["message"]
    return str(body["error"]["code"])


def test_every_form_of_a_request_gets_its_answer(pipeline: Pipeline) -> None:
    text = base64.b64encode(picture("green")).decode()
    rows: list[Mapping[str, Any]] = [
        {"body": picture("red", "JPEG")},
        {"data": picture("green", "WEBP")},
        {"file": bytearray(picture("blue"))},
        {"body": {"data": text}},
        {"body": json.dumps({"b64": text}).encode()},
        {"body": json.dumps({"data": f"data:image/png;base64,{text}"})},
    ]
    replies = pipeline(rows)
    assert [reply.status for reply in replies] == [200] * 6
    assert [read(reply)["label"] for reply in replies] == ["red", "green", "blue", "green", "green", "green"]


GARBAGE: list[tuple[Mapping[str, Any], int, str]] = [
    ({"body": b"garbage"}, 415, "unsupported_type"),
    ({"body": b""}, 415, "unsupported_type"),
    ({"body": picture("red", "JPEG")[:-9]}, 400, "undecodable"),
    ({"body": b"{"}, 400, "undecodable"),
    ({"body": {"data": "!"}}, 400, "undecodable"),
    ({"body": {}}, 422, "invalid_content"),
    ({}, 422, "invalid_content"),
    ({"body": {"instances": ["AA=="] * 101}}, 413, "too_large"),
]


def test_garbage_between_good_requests(pipeline: Pipeline) -> None:
    labels = [LABELS[index % 3] for index in range(len(GARBAGE))]
    rows: list[Mapping[str, Any]] = []
    for label, (row, _, _) in zip(labels, GARBAGE, strict=True):
        rows += [{"body": picture(label)}, row]
    replies = pipeline(rows)
    assert [read(reply)["label"] for reply in replies[::2]] == labels
    assert [(int(reply.status), code(reply)) for reply in replies[1::2]] == [(s, c) for _, s, c in GARBAGE]


def test_good_and_bad_instances_of_one_request(pipeline: Pipeline) -> None:
    good = {label: base64.b64encode(picture(label)).decode() for label in LABELS}
    instances = [good["blue"], 5, {"data": good["red"]}, "!", {}, good["green"], base64.b64encode(b"text").decode()]
    first, many, last = pipeline([{"body": picture("red")}, {"body": {"instances": instances}}, {"body": b"garbage"}])
    assert read(first)["label"] == "red"
    assert many.status == 200
    predictions = read(many)["predictions"]
    got = [p["error"]["code"] if "error" in p else p["label"] for p in predictions]
    assert got == ["blue", "invalid_content", "red", "undecodable", "invalid_content", "green", "unsupported_type"]
    assert code(last) == "unsupported_type"


def test_one_instance_is_still_a_list(pipeline: Pipeline) -> None:
    (reply,) = pipeline([{"body": {"instances": [base64.b64encode(picture("red")).decode()]}}])
    assert [prediction["label"] for prediction in read(reply)["predictions"]] == ["red"]


def test_an_empty_batch(pipeline: Pipeline) -> None:
    assert pipeline([]) == []


@pytest.mark.parametrize("size", [1, 3, 4, 5, 9])
def test_batches_of_any_size_run_in_chunks(pipeline: Pipeline, size: int) -> None:
    labels = [LABELS[index * index % 3] for index in range(size)]
    replies = pipeline([{"body": picture(label)} for label in labels])
    assert [read(reply)["label"] for reply in replies] == labels


@pytest.mark.parametrize("step", ["decode", "encode"])
def test_a_bug_in_a_task_costs_one_item_and_leaks_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    real = getattr(ImageClassification, step)

    def broken(task: Any, given: Any, *rest: Any) -> Any:
        green = given == picture("green") if step == "decode" else rest[0]["probabilities"].argmax() == 1
        return 1 / 0 if green else real(task, given, *rest)

    monkeypatch.setattr(ImageClassification, step, broken)
    with caplog.at_level(logging.ERROR, "handlers.pipeline"):
        replies = pipeline([{"body": picture(label)} for label in LABELS])
    assert [reply.status for reply in replies] == [200, 500, 200]
    assert [read(replies[index])["label"] for index in (0, 2)] == ["red", "blue"]
    assert code(replies[1]) == "internal"
    for secret in (b"division", b"ZeroDivision", b"Traceback", b".py", step.encode()):
        assert secret not in replies[1].body
    assert "ZeroDivisionError" in caplog.text


def test_a_failing_run_costs_its_chunk(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    network = pipeline.network
    assert network is not None
    run, sizes = network.run, []

    def failing(items: Any) -> Any:
        sizes.append(len(items))
        if len(sizes) == 2:
            raise MemoryError
        return run(items)

    monkeypatch.setattr(network, "run", failing)
    replies = pipeline([{"body": picture("green")} for _ in range(10)])
    assert sizes == [4, 4, 2]
    assert [int(reply.status) for reply in replies] == [200] * 4 + [500] * 4 + [200] * 2


def test_what_is_no_json_costs_one_item(pipeline: Pipeline) -> None:
    """The network gives NaN for white."""
    white = encode(np.full((12, 16, 3), 255, np.uint8), "PNG")
    text = [base64.b64encode(data).decode() for data in (picture("red"), white, picture("blue"))]
    rows: list[Mapping[str, Any]] = [{"body": white}, {"body": picture("green")}, {"body": {"instances": text}}]
    single, good, many = pipeline(rows)
    assert (single.status, code(single)) == (500, "internal")
    assert read(good)["label"] == "green"
    first, second, third = read(many)["predictions"]
    assert (first["label"], second["error"]["code"], third["label"]) == ("red", "internal", "blue")


def test_lone_surrogates_do_not_break_a_reply(pipeline: Pipeline) -> None:
    """`"\\ud800"` is valid JSON and no valid text."""
    replies = pipeline([{"\ud800": b"x"}, {"body": "\ud800"}, {"body": picture("red")}])
    assert [int(reply.status) for reply in replies] == [422, 415, 200]
    assert [code(reply) for reply in replies[:2]] == ["invalid_content", "unsupported_type"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters(), max_size=9) | st.binary(max_size=30),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), values, max_size=3)
    ),
    max_leaves=6,
)
ROWS = st.dictionaries(st.sampled_from(["data", "body", "x"]), VALUES | st.fixed_dictionaries({"instances": VALUES}))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(ROWS, max_size=4))
def test_whatever_comes_the_good_one_is_answered(pipeline: Pipeline, rows: list[dict[str, Any]]) -> None:
    logging.disable()  # a bug would fill the report with its log
    try:
        replies = pipeline([*rows, {"body": picture("blue")}])
    finally:
        logging.disable(logging.NOTSET)
    assert len(replies) == len(rows) + 1
    assert read(replies[-1])["label"] == "blue"
    for reply in replies:
        read(reply)
        assert reply.status < 500
        assert b'"internal"' not in reply.body


@pytest.mark.parametrize(("threads", "most"), [(1, 2), (4, 5)])
def test_instances_that_take_too_long_are_refused_and_cost_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, most: int
) -> None:
    """What the other threads are at when the time is up, they finish."""
    pipeline = with_threads(tmp_path, threads)
    monkeypatch.setattr("handlers.pipeline.REQUEST_SECONDS", 0.02)
    decode = pipeline._task.decode

    def slow(instance: Any) -> Any:
        time.sleep(0.015)
        return decode(instance)

    monkeypatch.setattr(pipeline._task, "decode", slow)
    encoded = base64.b64encode(picture("red")).decode()
    many, single = pipeline([{"body": {"instances": [encoded] * 12}}, {"body": picture("blue")}])
    predictions = read(many)["predictions"]
    assert 1 <= sum("error" not in prediction for prediction in predictions) <= most
    assert predictions[-1]["error"]["code"] == "too_large"
    assert read(single)["label"] == "blue"


def test_one_decoding_thread_is_the_callers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = with_threads(tmp_path, 1)
    seen: list[int] = []
    decode = pipeline._task.decode

    def noting(data: Any) -> Any:
        seen.append(threading.get_ident())
        return decode(data)

    monkeypatch.setattr(pipeline._task, "decode", noting)
    pipeline([{"body": picture("red")}] * 9)
    assert seen == [threading.get_ident()] * 9


def test_several_threads_decode_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the two others; alone it would wait in vain, and fail."""
    pipeline, together = with_threads(tmp_path, 3), threading.Barrier(3, timeout=20)
    decode = pipeline._task.decode
    monkeypatch.setattr(pipeline._task, "decode", lambda data: (together.wait(), decode(data))[1])
    replies = pipeline([{"body": picture(label)} for label in LABELS])
    assert [read(reply)["label"] for reply in replies] == list(LABELS)


def test_a_chunk_runs_while_the_next_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second item is decoded only after the first one's run; a run that waited for both would wait in vain."""
    pipeline, ran = with_threads(tmp_path, 2, chunk=1), threading.Event()
    network = pipeline.network
    assert network is not None
    decode, run = pipeline._task.decode, network.run

    def waiting(data: Any) -> Any:
        assert data != picture("green") or ran.wait(20)
        return decode(data)

    def noting(items: Any) -> Any:
        ran.set()
        return run(items)

    monkeypatch.setattr(pipeline._task, "decode", waiting)
    monkeypatch.setattr(network, "run", noting)
    bodies = [b"garbage", picture("red"), picture("green"), b"garbage"]
    replies = pipeline([{"body": body} for body in bodies])
    assert [int(reply.status) for reply in replies] == [415, 200, 200, 415]
    assert [read(reply)["label"] for reply in replies[1:3]] == ["red", "green"]


def test_movements_are_gathered_after_all_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = classifier(tmp_path)
    threaded = Pipeline.load(tmp_path, replace(classifier_spec(), decode_threads=3))
    gather, sizes = threaded._task.gather, []

    def noting(items: Sequence[Item]) -> Sequence[Item]:
        sizes.append(len(items))
        return gather(items)

    monkeypatch.setattr(threaded._task, "gather", noting)
    rows: list[dict[str, Any]] = [{"body": movement(duration=200 + 10 * index)} for index in range(40)]
    rows.insert(7, {"body": b"x"})
    assert threaded(rows) == plain(rows)
    assert sizes == [32, 8]


def test_several_threads_without_a_network(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool", {"red": 4, "blue": 4})
    pipeline = Pipeline.load(tmp_path, HandlerSpec("random_images", decode_threads=3), pool=pool)
    replies = pipeline([{"body": {"kind": "drag_drop", "count": 4}}, {"body": {}}, {"body": {"kind": "drag_drop"}}])
    assert [int(reply.status) for reply in replies] == [200, 422, 200]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 9])
def test_batches_of_any_size_through_bound_buffers(pipeline: Pipeline, size: int) -> None:
    """As on a GPU, on the CPU's own device; more than a chunk of the CPU's is run at once."""
    network = pipeline.network
    assert network is not None
    network._runner = Bound(network._session, replace(network.spec, batch_sizes=(2, 5)), "cpu")
    network.chunk = 5
    labels = [LABELS[index * index % 3] for index in range(size)]
    replies = pipeline([{"body": picture(label)} for label in labels])
    assert [read(reply)["label"] for reply in replies] == labels


@pytest.mark.parametrize("task", ["", "os", "handlers.tasks.random_images", "image-classification", "..pool"])
def test_unknown_tasks(tmp_path: Path, task: str) -> None:
    with pytest.raises(SpecError, match=r"handler\.task must be one of .*image_classification, .*random_images"):
        Pipeline.load(tmp_path, HandlerSpec(task))


def test_a_gathering_that_fails_costs_the_item_it_fails_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, sizes = classifier(tmp_path), []
    gather = model._task.gather

    def failing(items: Sequence[Item]) -> Sequence[Item]:
        sizes.append(len(items))
        durations = {item.extra["trajectory"].t[-1] for item in items}
        if 105 in durations:
            raise InvalidContentError("no such movement")
        return gather(items) if 205 not in durations else 1 / 0  # type: ignore[return-value]

    monkeypatch.setattr(model._task, "gather", failing)
    good, bad, bug = ({"body": movement(duration=duration)} for duration in (1000, 100, 200))
    with caplog.at_level(logging.ERROR, "handlers.pipeline"):
        replies = model([good, bad, {"body": b"x"}, bug, *[good] * 29, good, good])
    assert sizes == [32, *[1] * 32, 2]
    assert [int(reply.status) for reply in replies] == [200, 422, 422, 500, *[200] * 31]
    assert read(replies[1])["error"]["message"] == "no such movement"
    assert {reply.body for reply in replies if reply.status == 200} == {replies[0].body}
    sizes.clear()
    assert int(model([bad])[0].status) == 422
    assert sizes == [1]


def test_a_gathering_that_takes_too_long_is_charged_to_those_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next chunk of the same request is refused; what others sent, in the same chunk, is not."""
    monkeypatch.setattr("handlers.pipeline.REQUEST_SECONDS", 0.2)
    monkeypatch.setattr("handlers.pipeline.GATHERED", 3)
    model = classifier(tmp_path)
    gather = model._task.gather

    def slow(items: Sequence[Item]) -> Sequence[Item]:
        time.sleep(0.3)
        return gather(items)

    monkeypatch.setattr(model._task, "gather", slow)
    little, single, much = model(
        [{"body": {"instances": [movement()]}}, {"body": movement()}, {"body": {"instances": [movement()] * 6}}]
    )
    assert "error" not in read(little)["predictions"][0]
    assert single.status == 200
    refused = [prediction.get("error", {}).get("code") for prediction in read(much)["predictions"]]
    assert refused == [None] * 4 + ["too_large"] * 2


def test_images_are_not_explained(pipeline: Pipeline) -> None:
    data = base64.b64encode(picture("red")).decode()
    plain: Mapping[str, Any] = {"body": {"data": data, "explain": False}}
    wishing: Mapping[str, Any] = {"body": {"data": data, "explain": True}}
    raw: Mapping[str, Any] = {"body": picture("red")}
    replies = pipeline(
        [plain, wishing, raw, raw, {"body": {"instances": [data]}}],
        [Wish(explain) for explain in (False, False, False, True, True)],
    )
    assert [int(reply.status) for reply in replies] == [200, 422, 200, 422, 200]
    assert "does not explain its answers" in read(replies[3])["error"]["message"]
    assert read(replies[4])["predictions"] == [read(replies[1])] == [read(replies[3])]


@pytest.mark.parametrize("wish", [1, 0, "true", None, [True]])
def test_a_wish_is_true_or_false(pipeline: Pipeline, wish: object) -> None:
    data = base64.b64encode(picture("red")).decode()
    bad, good = pipeline(
        [{"body": {"data": data, "explain": wish}}, {"body": picture("red")}], [Wish(explain=True), Wish()]
    )
    assert (bad.status, code(bad), good.status) == (422, "invalid_content", 200)


def test_what_is_sent_is_left_as_it_is(pipeline: Pipeline) -> None:
    instance = {"data": base64.b64encode(picture("red")).decode(), "explain": False}
    pipeline([{"body": instance}])
    assert instance["explain"] is False


def test_the_time_of_each_stage_is_told(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(step: Any, *arguments: Any) -> Any:
        time.sleep(0.2)
        return step(*arguments)

    pipeline([{"body": picture("red")}] * 3)
    assert list(pipeline.stages.seconds) == ["decode", "run", "encode"]
    within_run = {"decode"} if pipeline._overlaps else set()
    assert all(spent > 0 for stage, spent in pipeline.stages.seconds.items() if stage not in within_run)
    for stage, owner, name in [("run", pipeline, "_run"), ("encode", pipeline._task, "encode")]:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, functools.partial(slowly, getattr(owner, name)))
            pipeline([{"body": picture("red")}])
        assert pipeline.stages.seconds[stage] >= 0.2
