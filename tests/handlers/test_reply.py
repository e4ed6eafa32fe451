"""What is sent: an answer, an error or a file; and never more than TorchServe takes."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import reply
from handlers.accept import JPEG, JSON
from handlers.errors import UndecodableError
from handlers.reply import Reply, sendable, to_reply

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES))
def test_an_answer_is_json_that_reads_as_the_answer(answer: dict[str, Any]) -> None:
    sent = to_reply(answer)
    assert (sent.status, sent.media_type, sent.headers) == (HTTPStatus.OK, JSON, ())
    assert json.loads(sent.body) == json.loads(json.dumps(answer).encode("utf-8", "replace"))


def test_numbers_of_a_network_are_sent_as_they_are() -> None:
    sent = to_reply({"embedding": np.array([0.5, -1], np.float32)})
    assert sent.body == b'{"embedding":[0.5,-1.0]}'


@pytest.mark.parametrize("number", [math.nan, math.inf, np.float32("nan")])
def test_what_is_no_json_is_a_fault_of_ours(number: float) -> None:
    sent = to_reply({"confidence": number})
    assert (sent.status, json.loads(sent.body)["error"]["code"]) == (HTTPStatus.INTERNAL_SERVER_ERROR, "internal")


def test_an_error_has_its_status() -> None:
    sent = to_reply(UndecodableError("no image"))
    assert (sent.status, json.loads(sent.body)) == (400, {"error": {"code": "undecodable", "message": "no image"}})


def test_a_file_is_left_as_it_is() -> None:
    file = Reply(HTTPStatus.OK, b"\xff\xd8", JPEG, (("X-Face-Count", "1"),))
    assert to_reply(file) is file


def test_a_reply_has_as_many_bytes_as_torchserve_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "MAX_REPLY_BYTES", 200)
    fits = Reply(HTTPStatus.OK, bytes(200), JPEG)
    assert sendable(fits) is fits
    refused = sendable(Reply(HTTPStatus.OK, bytes(201), JPEG))
    assert (refused.status, refused.media_type) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, JSON)
    assert "201 bytes" in json.loads(refused.body)["error"]["message"]
