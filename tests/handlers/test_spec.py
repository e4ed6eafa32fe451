"""The `handler:` section: what is right becomes a record, what is wrong a message that names the place."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import SpecError
from handlers.spec import HandlerSpec, LimitsSpec, NetworkSpec, QuestionSpec, ScalingSpec, read_spec

NETWORK: dict[str, Any] = {"file": "model.onnx", "input_shape": [224, 224, 3]}
QUESTION: dict[str, Any] = {
    "field": "is_cat",
    "answers": {"cat": True, "dog": None, "owl": False},
    "messages": {"cat": "Yes.", "dog": "Neither.", "owl": "No."},
    "confidence_threshold": 1,
    "unsure": "Hm.",
}
SECTION: dict[str, Any] = {"task": "image_classification", "labels": ["cat", "dog"], "network": NETWORK}


def test_a_full_section() -> None:
    section = SECTION | {
        "network": NETWORK
        | {"input_type": "float32", "outputs": ["a", "b"], "chunk": 8, "threads": 2, "provider": "cpu"}
        | {"batch_sizes": [1, 8, 32]},
        "decode_threads": 4,
        "memory_limit_mb": 300,
        "pool": "pool",
        "limits": {"max_bytes": 1000},
        "example": {"json": {"random": True}},
    }
    spec = read_spec({"minWorkers": 1, "handler": section})
    network = NetworkSpec("model.onnx", (224, 224, 3), "float32", ("a", "b"), 8, 2, "cpu", batch_sizes=(1, 8, 32))
    limits = LimitsSpec(max_bytes=1000)
    example = {"json": {"random": True}}
    expected = HandlerSpec("image_classification", ("cat", "dog"), network, "pool", limits, example, decode_threads=4)
    expected = dataclasses.replace(expected, memory_limit_mb=300)
    assert spec == expected
    assert spec.limits.max_pixels == LimitsSpec().max_pixels


def test_the_least_a_section_needs() -> None:
    assert read_spec({"handler": {"task": "t"}}) == HandlerSpec("t")
    assert read_spec({"handler": {"task": "t", "network": None}}).network is None
    assert read_spec({"handler": SECTION}).network == NetworkSpec("model.onnx", (224, 224, 3))


def test_what_a_network_of_features_needs() -> None:
    """YAML writes 3 for 3.0."""
    section = {
        "task": "t",
        "features": ["jerk", "duration"],
        "reference": [3, 2.5],
        "threshold": 1,
        "scaling": {"mouse": {"center": [0, 1.5], "scale": [1, 2]}},
    }
    spec = read_spec({"handler": section})
    assert spec.features == ("jerk", "duration")
    assert (spec.reference, spec.threshold) == ((3.0, 2.5), 1.0)
    assert all(type(number) is float for number in (*spec.reference, spec.threshold))
    assert spec.scaling == {"mouse": ScalingSpec((0.0, 1.5), (1.0, 2.0))}


def test_a_question() -> None:
    plain = {name: value for name, value in QUESTION.items() if name not in ("confidence_threshold", "unsure")}
    answers = {"cat": True, "dog": None, "owl": False}
    spec = read_spec({"handler": {"task": "t", "question": QUESTION}})
    assert spec.question == QuestionSpec("is_cat", answers, QUESTION["messages"], 1.0, "Hm.")
    spec = read_spec({"handler": {"task": "t", "question": plain}})
    assert spec.question == QuestionSpec("is_cat", answers, QUESTION["messages"])
    assert read_spec({"handler": {"task": "t", "question": None}}).question is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"field": ""}, "handler.question.field must be a name other than confidence, predicted_class, is_valid, "),
        ({"field": "is cat"}, "handler.question.field must be a name other than"),
        ({"field": "message"}, "handler.question.field must be a name other than"),
        ({"answers": {"cat": True, "dog": None}}, "answers must be true for one label at least, and false for another"),
        ({"answers": {}}, "answers must be true for one label at least"),
        ({"answers": {"cat": 1, "dog": False}}, "handler.question.answers.cat must be true or false, not 1"),
        ({"answers": {"cat": "yes"}}, "handler.question.answers.cat must be true or false, not 'yes'"),
        ({"answers": ["cat"]}, "handler.question.answers must be a section of keys and values"),
        ({"messages": {"cat": "Yes."}}, "messages must have a text for every label in answers, and for no other"),
        ({"messages": QUESTION["messages"] | {"cat": ""}}, "messages must have a text for every label"),
        ({"messages": QUESTION["messages"] | {"cat": None}}, "handler.question.messages.cat must be text, not None"),
        ({"confidence_threshold": 1.5}, "handler.question.confidence_threshold must be from 0 to 1, not 1.5"),
        ({"confidence_threshold": "0.5"}, "handler.question.confidence_threshold must be a finite number"),
        ({"confidence_threshold": None}, "unsure goes with confidence_threshold: give both, or neither"),
        ({"unsure": ""}, "unsure goes with confidence_threshold"),
        ({"treshold": 1}, "handler.question has unknown keys: treshold"),
    ],
)
def test_wrong_questions(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec({"handler": {"task": "t", "question": QUESTION | change}})
    assert message in str(caught.value)


def test_the_record_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_spec({"handler": SECTION}).task = "other"  # type: ignore[misc]


@pytest.mark.parametrize("config", [None, {}, [], "handler", {"handler": None}, {"handler": [1]}, {"handler": "task"}])
def test_no_section(config: object) -> None:
    with pytest.raises(SpecError, match="no 'handler:' section"):
        read_spec(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": 5}, "handler.task must be text, not 5"),
        ({"task": None}, "handler.task must be text, not None"),
        ({"labels": "cat"}, "handler.labels must be a list of str"),
        ({"labels": ["cat", 1]}, "handler.labels must be a list of str"),
        ({"labels": {"cat": 1}}, "handler.labels must be a list of str"),
        ({"pool": True}, "handler.pool must be text, not True"),
        ({"pool": None}, "handler.pool must be text, not None"),
        ({"limits": None}, "handler.limits must be a section of keys and values"),
        ({"limits": 5}, "handler.limits must be a section of keys and values"),
        ({"limits": {"max_bytes": True}}, "handler.limits.max_bytes must be a whole number, not True"),
        ({"limits": {"max_bytes": 1.5}}, "handler.limits.max_bytes must be a whole number, not 1.5"),
        ({"limits": {"max_pixels": 0}}, "must be positive"),
        (
            {"limits": {"max_byte": 5}},
            "handler.limits has unknown keys: max_byte; known are max_bytes, max_decoded_pixels, max_pixels",
        ),
        ({"memory_limit_mb": -1}, "handler.memory_limit_mb must be a number of megabytes, or 0 for no limit"),
        ({"memory_limit_mb": 0.5}, "handler.memory_limit_mb must be a whole number"),
        ({"example": ["file"]}, "handler.example must be a section of keys and values"),
        (
            {"labls": []},
            "handler has unknown keys: labls; known are cascade, decode_threads, example, features, labels, limits, ",
        ),
        ({5: 1, "x": 2, None: 3}, "handler has unknown keys: 5, None, x"),
        ({"features": "jerk"}, "handler.features must be a list of str"),
        ({"reference": 1.0}, "handler.reference must be a list of numbers"),
        ({"reference": [1.0, True]}, "handler.reference[1] must be a finite number"),
        ({"reference": [1.0, "2"]}, "handler.reference[1] must be a finite number"),
        ({"reference": [math.nan]}, "handler.reference[0] must be a finite number"),
        ({"reference": [10**400]}, "handler.reference[0] must be a finite number"),
        ({"threshold": None}, "handler.threshold must be a finite number"),
        ({"threshold": False}, "handler.threshold must be a finite number"),
        ({"threshold": math.inf}, "handler.threshold must be a finite number"),
        ({"threshold": 1.1}, "handler.threshold must be from 0 to 1, not 1.1"),
        ({"threshold": -1}, "handler.threshold must be from 0 to 1, not -1.0"),
        ({"scaling": None}, "handler.scaling must be a section of keys and values"),
        ({"scaling": {"mouse": [1.0]}}, "handler.scaling.mouse must be a section of keys and values"),
        ({"scaling": {"mouse": {"center": [0]}}}, "handler.scaling.mouse lacks scale"),
        ({"scaling": {"mouse": {"center": [0], "scale": ["1"]}}}, "handler.scaling.mouse.scale[0] must be a finite"),
        ({"scaling": {"mouse": {"center": [0], "scale": [1, 1]}}}, "as many numbers in center as in scale"),
        ({"scaling": {"mouse": {"center": [0], "scale": [0]}}}, "every scale must be above 0"),
        ({"network": "model.onnx"}, "handler.network must be a section of keys and values"),
        ({"network": {}}, "handler.network lacks file, input_shape"),
        ({"network": {"file": "m"}}, "handler.network lacks input_shape"),
        ({"network": NETWORK | {"file": b"m"}}, "handler.network.file must be text"),
        ({"network": NETWORK | {"input_shape": []}}, "handler.network.input_shape must be a list of positive numbers"),
        ({"network": NETWORK | {"input_shape": [224, 0]}}, "input_shape must be a list of positive numbers"),
        ({"network": NETWORK | {"input_shape": [224, True]}}, "handler.network.input_shape must be a list of int"),
        ({"network": NETWORK | {"input_shape": 224}}, "handler.network.input_shape must be a list of int"),
        ({"network": NETWORK | {"outputs": []}}, "handler.network.outputs must name one output at least"),
        ({"network": NETWORK | {"outputs": "probabilities"}}, "handler.network.outputs must be a list of str"),
        ({"network": NETWORK | {"chunk": 0}}, "handler.network.chunk must be at least 1"),
        ({"network": NETWORK | {"chunk": True}}, "handler.network.chunk must be a whole number, not True"),
        ({"network": NETWORK | {"threads": -1}}, "handler.network.threads must be at least 1"),
        (
            {"network": NETWORK | {"batch_sizes": [0, 4]}},
            "batch_sizes must be positive numbers, each above the one before",
        ),
        (
            {"network": NETWORK | {"batch_sizes": [8, 4]}},
            "batch_sizes must be positive numbers, each above the one before",
        ),
        (
            {"network": NETWORK | {"batch_sizes": [4, 4]}},
            "batch_sizes must be positive numbers, each above the one before",
        ),
        ({"network": NETWORK | {"batch_sizes": 4}}, "handler.network.batch_sizes must be a list of int"),
        ({"decode_threads": 0}, "handler.decode_threads must be from 1 to 256"),
        ({"decode_threads": 257}, "handler.decode_threads must be from 1 to 256"),
        ({"decode_threads": "4"}, "handler.decode_threads must be a whole number"),
        (
            {"network": NETWORK | {"provider": "tpu"}},
            "handler.network.provider must be one of auto, cpu, cuda, not 'tpu'",
        ),
    ],
)
def test_wrong_sections(change: dict[Any, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec({"handler": SECTION | change})
    assert message in str(caught.value)


def test_the_task_is_required() -> None:
    with pytest.raises(SpecError, match="handler lacks task"):
        read_spec({"handler": {"labels": []}})


SCALARS: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(SCALARS, values, max_size=3),
    max_leaves=8,
)


def sections(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[Any, Any]]:
    """Sections whose values are right, wrong or missing, with strange keys among them."""
    fields = st.fixed_dictionaries({}, optional={name: right | VALUES for name, right in known.items()})
    return st.builds(lambda a, b: a | b, fields, st.dictionaries(SCALARS, VALUES, max_size=1) | st.just({}))


NETWORKS = sections(
    {
        "file": st.just("m.onnx"),
        "input_shape": st.lists(st.integers(-1, 9), max_size=3),
        "outputs": st.lists(st.text(max_size=3), max_size=2),
        "chunk": st.integers(-1, 9),
        "provider": st.sampled_from(["auto", "cpu", "cuda"]),
        "batch_sizes": st.lists(st.integers(-1, 9), max_size=3),
    }
)
SECTIONS = sections(
    {
        "task": st.just("t"),
        "labels": st.lists(st.text(max_size=3), max_size=3),
        "network": NETWORKS,
        "decode_threads": st.integers(-1, 300),
        "reference": st.lists(st.floats() | st.integers(), max_size=3),
        "threshold": st.floats(-1, 2),
        "question": st.just(QUESTION) | sections({name: st.just(value) for name, value in QUESTION.items()}),
        "scaling": sections({"mouse": sections({"center": st.lists(st.floats(0), max_size=2)})}),
        "limits": sections({"max_bytes": st.integers(), "max_pixels": st.integers()}),
    }
)


@given(VALUES | st.fixed_dictionaries({"handler": SECTIONS | VALUES}))
def test_anything_is_a_record_or_a_spec_error(config: Any) -> None:
    try:
        spec = read_spec(config)
    except SpecError:
        return
    assert type(spec.task) is str
    assert all(type(label) is str for label in spec.labels)
    assert all(type(number) is float and math.isfinite(number) for number in (*spec.reference, spec.threshold))
    numbers = [spec.limits.max_bytes, spec.limits.max_pixels, spec.decode_threads]
    if spec.network:
        numbers += [*spec.network.input_shape, spec.network.chunk, spec.network.threads, *spec.network.batch_sizes]
    assert all(type(number) is int and number > 0 for number in numbers)
