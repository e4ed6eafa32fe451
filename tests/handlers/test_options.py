"""What a request may set beside its content, and which of several places counts."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import InvalidContentError, RequestError
from handlers.options import NONE, check, from_headers, of_text, share
from handlers.payload import FIELDS, Payload, parse

OPTIONS = {"confidence_threshold": share, "size": share}
SHARES = st.floats(0, 1) | st.integers(0, 1)


@pytest.mark.parametrize(
    "name", ["X-Confidence-Threshold", "x-confidence-threshold", "X-CONFIDENCE-THRESHOLD", "x-Confidence-threshold"]
)
def test_a_header_has_no_case(name: str) -> None:
    assert from_headers({"accept": "*/*", name: "0.8"}, OPTIONS) == {"confidence_threshold": "0.8"}
    assert from_headers({name: "0.8"}, NONE) == {}


def test_what_is_no_header_of_an_option() -> None:
    """TorchServe puts the kinds of a form's fields beside the headers, under the fields' names."""
    headers = {"X-Size": {"content-type": "text/plain"}, "size": "1", "X-Confidence_Threshold": "1", "confidence": "1"}
    assert from_headers(headers, OPTIONS) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.8", 0.8),
        (b"0.8", 0.8),
        (bytearray(b" 1\n"), 1),
        ("true", True),
        (b"\xff", "\ufffd"),
        (0.5, 0.5),
        *((text, text) for text in ("", ".5", "0,8", "NaN", "[" * 5000, "9" * 400)),
    ],
)
def test_text_is_read_as_json_has_it(text: Any, value: Any) -> None:
    assert of_text(text) == value


@given(SHARES)
def test_a_share_is_a_number_from_0_to_1(value: float) -> None:
    assert check({"size": value, "data": "x"}, OPTIONS) == {"size": value, "data": "x"}
    assert check({"size": of_text(json.dumps(value))}, OPTIONS) == {"size": value}


@pytest.mark.parametrize(
    "value", [-0.001, 1.001, 2, -1, math.nan, math.inf, -math.inf, 10**400, True, False, None, "0.8", "", [], [0.5], {}]
)
def test_anything_else_is_refused_by_the_name_of_the_option(value: Any) -> None:
    with pytest.raises(InvalidContentError, match=r"^'size' must be a number from 0 to 1, as in 0\.7$"):
        check({"size": value}, OPTIONS)


@given(st.sampled_from(FIELDS), SHARES, SHARES, SHARES, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_the_instance_goes_before_the_field_and_the_field_before_the_header(
    place: str, own: float, field: float, header: float, with_own: bool, with_field: bool, with_header: bool, many: bool
) -> None:
    """As the handler puts the two together."""
    instance = {"data": "AA=="} | ({"size": own} if with_own else {})
    row: dict[str, Any] = {place: json.dumps({"instances": [instance]} if many else instance).encode()}
    row |= {"size": json.dumps(field).encode()} if with_field else {}
    found = parse(from_headers({"x-size": json.dumps(header)} if with_header else {}, OPTIONS) | row, OPTIONS)
    given_in = [own] * with_own + [field] * with_field + [header] * with_header
    assert found == Payload([{"data": "AA=="} | ({"size": given_in[0]} if given_in else {})], many)


def test_a_file_with_an_option_beside_it() -> None:
    assert parse({"data": b"\xff\xd8", "size": b"0.5"}, OPTIONS).instances == [{"data": b"\xff\xd8", "size": 0.5}]
    assert parse({"data": b"\xff\xd8", "size": None}, OPTIONS).instances == [b"\xff\xd8"]
    assert parse({"data": b"\xff\xd8"}, OPTIONS).instances == [b"\xff\xd8"]
    assert parse({"data": b"\xff\xd8", "size": b"0.5"}).instances == [b"\xff\xd8"]  # of a model without that option


def test_an_option_is_laid_into_every_instance_but_the_wrong_ones() -> None:
    row = {"body": {"instances": ["AA==", 5, {"data": "BB==", "size": 1}]}, "size": b"0.5"}
    first, second, third = parse(row, OPTIONS).instances
    assert (first, third) == ({"data": "AA==", "size": 0.5}, {"data": "BB==", "size": 1})
    assert isinstance(second, InvalidContentError)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"data": b"x", "treshold": b"1", "size": b"1"},
            "unknown fields 'treshold'; known: confidence_threshold, size",
        ),
        ({"size": b"1"}, "the request is empty"),
        ({"size": b"1", "image": b"x"}, "the request has only 'image'"),
        ({"body": {"instances": ["AA=="], "size": 1}}, "beside 'instances' nothing is read: put 'size' into each"),
    ],
)
def test_what_a_model_with_options_does_not_know(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidContentError) as caught:
        parse(row, OPTIONS)
    assert message in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, *OPTIONS, "other"]),
        st.binary(max_size=20)
        | st.text(st.characters(), max_size=9)
        | st.none()
        | st.floats()
        | st.just({"data": "A"}),
    )
)
def test_anything_beside_anything(row: dict[str, Any]) -> None:
    with suppress(RequestError):
        (instance,) = parse(row, OPTIONS).instances
        assert isinstance(instance, bytes | dict)
