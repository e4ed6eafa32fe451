"""The buffered codec is equal to TorchServe's own on generated messages."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.boot import wire
from tests.paths import ROOT

with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # it leaves its version file open
    from ts.context import Context, RequestProcessor
    from ts.protocol import otf_message_handler as original
    from ts.service import Service

TEXT = st.text(max_size=12)
NAMES = st.text(max_size=12).map(str.encode)
FIELD = st.tuples(TEXT, st.sampled_from(["", "image/jpeg", "application/json", "text/plain"]), st.binary(max_size=300))
REQUESTS = st.lists(
    st.tuples(TEXT, st.lists(st.tuples(NAMES, NAMES), max_size=4), st.lists(FIELD, max_size=3)), max_size=5
)


def field(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


END = struct.pack("!i", -1)


def message(requests: list[Any]) -> bytes:
    """A batch as the front end writes it, without the command."""
    parts = []
    for request_id, headers, parameters in requests:
        parts.append(field(request_id.encode()))
        parts += [field(name) + field(value) for name, value in headers] + [END]
        parts += [field(name.encode()) + field(kind.encode()) + field(value) for name, kind, value in parameters]
        parts.append(END)
    return b"".join(parts) + END


class Wire:
    """What a socket is to the original: `recv` gives at most so many bytes at once."""

    def __init__(self, data: bytes, most: int = 1 << 20) -> None:
        self._data, self._most = io.BytesIO(data), most

    def recv(self, length: int) -> bytes:
        return self._data.read(min(length, self._most))


@given(REQUESTS, st.sampled_from([1, 3, 1000]))
def test_requests_are_read_as_the_original_reads_them(requests: list[Any], most: int) -> None:
    data = message(requests)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TS_DECODE_INPUT_REQUEST", "false")
        headers, bodies, ids = Service.retrieve_data_for_inference(original._retrieve_inference_msg(Wire(data)))
    batch = wire.Reader(Wire(data, most)).batch()  # type: ignore[arg-type]
    assert batch == ([one.get_request_properties() for one in headers], bodies, ids)


@given(REQUESTS.filter(bool), st.data())
def test_a_front_end_that_is_gone_ends_the_worker(requests: list[Any], data: st.DataObject) -> None:
    whole = message(requests)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(SystemExit) as ended:
        wire.Reader(Wire(cut, 100)).batch()  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as originals_end:
        original._retrieve_inference_msg(Wire(cut))
    assert ended.value.code == originals_end.value.code == 0


REPLY = st.tuples(
    TEXT,
    st.binary(max_size=200) | st.binary(max_size=200).map(bytearray) | TEXT,
    st.none() | st.sampled_from([200, 400, 422, 503]),
    st.none() | TEXT,
    st.dictionaries(TEXT.filter(lambda name: name != "ts_stream_next"), TEXT, max_size=3),
)


def context_of(replies: list[Any]) -> Context:
    context = Context("model", ".", {}, len(replies), None, "0.12.0")
    context.request_processor = [RequestProcessor({}) for _ in replies]
    for index, (_, _, status, phrase, headers) in enumerate(replies):
        context.set_response_status(status, phrase, index)
        for name, value in headers.items():
            context.set_response_header(index, name, value)
    return context


@given(st.lists(REPLY, max_size=5), TEXT, st.sampled_from(["", "application/json", "text/plain; charset=utf-8"]))
def test_replies_are_written_as_the_original_writes_them(replies: list[Any], said: str, content_type: str) -> None:
    context = context_of(replies)
    for index in range(len(replies)):
        if content_type:
            context.set_response_content_type(index, content_type)
    bodies = [body for _, body, *_ in replies]
    ids = {index: reply[0] for index, reply in enumerate(replies)}
    expected = original.create_predict_response(bodies, ids, said, 200, context)
    assert wire.write_replies(bodies, ids, said, 200, context) == expected


@pytest.mark.parametrize("body", [{"a": 1}, [1], 3.5, None])
def test_other_replies_are_left_to_the_original(body: Any) -> None:
    assert wire.write_replies([body], {0: "a"}, "", 200, context_of([("a", body, 200, "", {})])) is None


def test_streams_are_left_to_the_original() -> None:
    context = context_of([("a", b"", 200, "", {"x": "y"})])
    context.set_response_header(0, "ts_stream_next", "true")
    assert wire.write_replies([b""], {0: "a"}, "", 200, context) is None


CONVERSATION = """
import json, os, socket, struct, sys, threading
from ts.protocol import otf_message_handler as module
from ts.context import Context, RequestProcessor
from ts.service import Service

def field(data):
    return struct.pack("!i", len(data)) + data

end = struct.pack("!i", -1)
load = b"L" + field(b"name") + field(b"/path") + struct.pack("!i", 8) + field(b"handler")
load += struct.pack("!i", -1) + field(b"") + b"\\1"
json_body = field(b"body") + field(b"application/json") + field(b'{"a": 1}')
batch = b"I" + field(b"id") + field(b"k") + field(b"v") + end + json_body + end + end
ours, theirs = socket.socketpair()
threading.Thread(target=theirs.sendall, args=(load + batch * 3,)).start()
seen = [module.retrieve_msg(ours) for _ in range(4)]
prepared = [Service.retrieve_data_for_inference(batch) for _, batch in seen[1:]]
seen[1:] = [([one.get_request_properties() for one in headers], *rest) for headers, *rest in prepared]
context = Context("model", ".", {}, 1, None, "0.12.0")
context.request_processor = [RequestProcessor({})]
replies = [module.create_predict_response([body], {0: "id"}, "ok", 200, context) for body in (b"x", "x", {"a": 1})]
print(module.retrieve_msg.__module__)
print(json.dumps([seen, replies], default=lambda data: data.decode("latin1")))  # bytes or bytearray
"""


@pytest.mark.parametrize("decode", ["true", "false"])
def test_a_worker_reads_through_it(decode: str) -> None:
    """A conversation over a real socket, with the boot folder on the path and without."""
    said = []
    for path in (str(ROOT / "marserve" / "boot"), ""):
        environment = {"PATH": "/usr/bin", "PYTHONPATH": path, "TS_DECODE_INPUT_REQUEST": decode}
        command = [sys.executable, "-c", CONVERSATION]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines())
    (module, ours), (original_module, originals) = said
    assert (module, original_module) == ("worker", "ts.protocol.otf_message_handler")
    assert ours == originals
