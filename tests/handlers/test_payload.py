"""What clients may send, in every form that TorchServe hands over."""

from __future__ import annotations

import base64
import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handlers import payload
from handlers.errors import InvalidContentError, RequestError, TooLargeError, UndecodableError
from handlers.payload import Payload, binary, parse, refuse_unknown

# Whole numbers beyond 64 bits become floats.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=9), values, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("field", payload.FIELDS)
@pytest.mark.parametrize("value", [b"\xff\xd8\xff\0", bytearray(b"\xff\xd8\xff\0")])
def test_a_raw_body_is_one_instance(field: str, value: bytes) -> None:
    parsed = parse({field: value, "other": b"ignored"})
    assert parsed == Payload([b"\xff\xd8\xff\0"], many=False)
    assert type(parsed.instances[0]) is bytes


def test_data_goes_before_file_before_body() -> None:
    assert parse({"body": b"3", "file": b"2", "data": b"1"}).instances == [b"1"]
    assert parse({"body": b"3", "file": b"2"}).instances == [b"2"]
    assert parse({"data": None, "body": b"3"}).instances == [b"3"]


@pytest.mark.parametrize("row", [{}, {"data": None}, {"image": b"1", "x": b"2"}])
def test_no_known_field(row: dict[str, Any]) -> None:
    with pytest.raises(InvalidContentError):
        parse(row)


def test_the_message_names_the_fields_that_were_sent() -> None:
    with pytest.raises(InvalidContentError, match=r"'data', 'file' or 'body'.*'image', 'x'"):
        parse({"x": b"1", "image": b"2"})


@pytest.mark.parametrize("text", ['{"random": true}', ' \n{"random": true}\n'])
def test_a_json_object_is_one_instance(text: str) -> None:
    for value in (text, text.encode(), bytearray(text.encode()), json.loads(text)):
        assert parse({"body": value}) == Payload([{"random": True}], many=False)


def test_instances_keep_their_order() -> None:
    sent: list[Any] = [{"data": "AA=="}, "BB==", {"random": True}]
    for value in ({"instances": sent}, json.dumps({"instances": sent}), json.dumps({"instances": sent}).encode()):
        assert parse({"data": value}) == Payload([{"data": "AA=="}, {"data": "BB=="}, {"random": True}], many=True)


def test_one_wrong_instance_is_that_instances_error() -> None:
    parsed = parse({"body": {"instances": ["AA==", 1, None, ["AA=="], True, {"data": "BB=="}]}})
    assert parsed.instances[0] == {"data": "AA=="}
    assert parsed.instances[5] == {"data": "BB=="}
    assert [type(instance) for instance in parsed.instances[1:5]] == [InvalidContentError] * 4


@pytest.mark.parametrize("instances", [[], {}, "AA==", None, 3])
def test_instances_must_be_a_list_with_something_in_it(instances: object) -> None:
    with pytest.raises(InvalidContentError, match="'instances'"):
        parse({"body": {"instances": instances}})


def test_a_hundred_instances_and_no_more() -> None:
    assert len(parse({"body": {"instances": ["AA=="] * 100}}).instances) == 100
    with pytest.raises(TooLargeError, match="101 elements; at most 100"):
        parse({"body": {"instances": ["AA=="] * 101}})


@pytest.mark.parametrize("value", [b"[1, 2]", [1, 2], 5, 1.5, True, False, math.nan])
def test_other_json_is_refused(value: object) -> None:
    with pytest.raises(InvalidContentError, match="must be an object"):
        parse({"body": value})


@pytest.mark.parametrize(
    "text",
    [b"{", b'{"a": 1}}', b"{'a': 1}", b'{"a": "\xff"}', b"[\0]"]
    + [opening * 200_000 for opening in (b"[", b'{"a":')]
    + [b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_json_is_undecodable(text: bytes) -> None:
    with pytest.raises(UndecodableError, match="JSON"):
        parse({"body": text})


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_numbers_that_json_does_not_have_are_wrong_content(number: bytes) -> None:
    with pytest.raises(InvalidContentError, match=rf"{number.decode()} is no number of JSON"):
        parse({"body": b'{"a": ' + number + b"}"})


@given(JSON)
def test_json_in_any_encoding_is_read_as_python_reads_it(value: Any) -> None:
    text = json.dumps({"a": value})
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert payload.parse_json(text.encode(encoding)) == json.loads(text)


def test_text_that_is_no_json_stays_bytes() -> None:
    assert parse({"body": "grüße"}).instances == ["grüße".encode()]
    assert parse({"body": "\ud800"}).instances == [b"?"]  # what JSON's "\ud800" becomes


@pytest.mark.parametrize(
    "instance",
    [{"data": "aGk="}, {"b64": "aGk="}, {"data": "aGk=", "b64": "!"}, {"data": "data:image/png;base64,aGk="}],
)
def test_base64(instance: dict[str, Any]) -> None:
    assert binary(instance) == b"hi"


@pytest.mark.parametrize("text", ["aGk", "a", "aG k=", "äöü=", "aGk=\n", "-_8=", "data:,!", "=", "\ud800"])
def test_wrong_base64(text: str) -> None:
    with pytest.raises(UndecodableError, match="base64"):
        binary({"data": text})


@pytest.mark.parametrize("text", ["", "data:image/png", "data:image/png;base64,"])
def test_an_empty_file(text: str) -> None:
    assert binary({"data": text}) == b""


@pytest.mark.parametrize("instance", [{}, {"data": None}, {"data": 5}, {"data": ["aGk="]}, {"other": "aGk="}])
def test_no_base64(instance: dict[str, Any]) -> None:
    with pytest.raises(InvalidContentError, match="base64"):
        binary(instance)


@given(st.binary(max_size=300))
def test_binary_reads_what_was_encoded(data: bytes) -> None:
    assert binary({"data": base64.b64encode(data).decode()}) == data


def payload_or_request_error(row: dict[str, Any]) -> None:
    try:
        parsed = parse(row)
    except RequestError:
        return
    assert 1 <= len(parsed.instances) <= payload.MAX_INSTANCES
    assert all(isinstance(instance, (bytes, dict, InvalidContentError)) for instance in parsed.instances)
    for instance in parsed.instances:
        if isinstance(instance, dict):
            with suppress(RequestError):
                assert isinstance(binary(instance), bytes)


@given(st.sampled_from([b"", b"{", b"[", b'{"a":', b'{"instances":', b"\xef\xbb\xbf{"]), st.binary(max_size=200))
@example(b"{", b"\0}")
def test_any_bytes(start: bytes, rest: bytes) -> None:
    payload_or_request_error({"body": start + rest})


@given(JSON | st.fixed_dictionaries({"instances": JSON | st.lists(JSON)}) | st.fixed_dictionaries({"data": JSON}))
def test_any_json(value: Any) -> None:
    payload_or_request_error({"data": value})
    payload_or_request_error({"data": json.dumps(value)})
    payload_or_request_error({"data": {"instances": value}})


@given(st.text(st.characters(), max_size=50) | st.floats() | st.dictionaries(st.text(), st.floats()))
def test_anything_torchserve_may_have_parsed(value: Any) -> None:
    payload_or_request_error({"body": value})


@given(st.dictionaries(st.text(max_size=9), JSON).filter(lambda value: "instances" not in value))
def test_json_arrives_as_it_was_sent(value: dict[str, Any]) -> None:
    for sent in (value, json.dumps(value).encode(), json.dumps(value, ensure_ascii=False)):
        assert parse({"body": sent}) == Payload([value], many=False)


def test_a_message_names_some_of_very_many_fields_and_not_all_of_a_name() -> None:
    with pytest.raises(InvalidContentError) as caught:
        refuse_unknown([f"{number:04}" + "x" * 1000 for number in range(1000)], ("data", "image"))
    assert str(caught.value).startswith("unknown fields '0000xxxx")
    assert str(caught.value).endswith("x', ...; known: data, image")
    assert len(str(caught.value)) < 500
    refuse_unknown([], ("data",))
