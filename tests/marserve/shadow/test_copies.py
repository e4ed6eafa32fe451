"""Copies as the other side reads them."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.boot import tap, wire
from marserve.shadow.copies import Backlog, Copy, Reply, read_replies, unpack
from tests.marserve.test_wire import REQUESTS, TEXT, Wire, message

with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # it leaves its version file open
    from ts.context import Context, RequestProcessor
    from ts.protocol import otf_message_handler as original

PHRASE = st.text(st.characters(max_codepoint=127), max_size=12)  # TorchServe miscounts others
REPLIES = st.lists(st.tuples(st.integers(100, 599), PHRASE, TEXT, st.binary(max_size=300)), max_size=5)


def context_of(replies: list[Any]) -> Any:
    context = Context("name", "folder", {}, 1, None, "0.12.0")
    context.request_processor = [RequestProcessor({}) for _ in replies]
    context.stopping_criteria = None
    for index, (status, phrase, header, _) in enumerate(replies):
        context.set_response_status(status, phrase, index)
        context.set_response_header(index, "own", header)
        context.set_response_content_type(index, "text/plain")
    return context


@given(REPLIES)
def test_replies_are_read_as_torchserve_writes_them(replies: list[Any]) -> None:
    ids = {index: f"r{index}" for index in range(len(replies))}
    bodies = [body for *_, body in replies]
    data = original.create_predict_response(bodies, ids, "Prediction success", 200, context_of(replies))
    assert read_replies(b"before" + bytes(data), 6) == {
        f"r{index}": Reply(status, body) for index, (status, _, _, body) in enumerate(replies)
    }


def test_a_batch_that_failed_has_replies_too() -> None:
    data = original.create_predict_response(None, {0: "a", 1: "b"}, "Prediction failed", 503)
    assert read_replies(bytes(data)) == dict.fromkeys("ab", Reply(503, b"error"))


def copied(requests: list[Any]) -> tuple[wire.Batch, bytes]:
    batch = wire.Reader(Wire(message(requests))).batch()  # type: ignore[arg-type]
    fields = [
        [batch.ids[index], batch.headers[index], [[name, len(body)] for name, body in batch.bodies[index].items()]]
        for index in batch.ids
    ]
    head = {"seen": 9, "sampled": 7, "seconds": 0.5, "requests": fields}
    reply = bytes(original.create_predict_response(None, batch.ids, "", 503))
    return batch, b"".join(tap.pack(head, [*(body for row in batch.bodies for body in row.values()), reply]))


@given(REQUESTS)
def test_a_copy_is_what_the_handler_saw(requests: list[Any]) -> None:
    batch, data = copied(requests)
    found = unpack(data)
    assert (found.seen, found.sampled) == (9, 7)
    assert [copy.request_id for copy in found.copies] == list(batch.ids.values())
    assert [copy.headers for copy in found.copies] == batch.headers
    assert [copy.bodies for copy in found.copies] == batch.bodies
    assert all(copy.seconds == 0.5 for copy in found.copies)


@given(REQUESTS.filter(bool), st.data())
def test_half_a_copy_is_none(requests: list[Any], data: st.DataObject) -> None:
    _, whole = copied(requests)
    with pytest.raises(ValueError):  # noqa: PT011
        unpack(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=200))
def test_garbage_is_no_copy(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        unpack(data)


def copy(size: int, name: str = "a") -> Copy:
    return Copy(name, {}, {"body": bytes(size)}, Reply(200, b""), 0.1)


def test_a_backlog_holds_so_many_copies_and_bytes() -> None:
    backlog = Backlog(most=3, most_bytes=100)
    assert [backlog.put(copy(size)) for size in (60, 60, 30, 5, 0)] == [True, False, True, True, False]
    taken = iter(backlog)
    assert next(taken).size == 60
    assert backlog.put(copy(60))
    assert backlog.close() == 3
    assert not backlog.put(copy(1))
    assert list(taken) == []
    assert Backlog(most_bytes=10).put(copy(1000))  # alone it may be of any size


def test_a_backlog_is_for_several_threads() -> None:
    backlog = Backlog()
    taken: list[str] = []
    threads = [threading.Thread(target=lambda: taken.extend(one.request_id for one in backlog)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        assert backlog.put(copy(1, str(number)))
    while len(taken) < 200:
        assert any(thread.is_alive() for thread in threads)
    backlog.close()
    for thread in threads:
        thread.join(10)
    assert sorted(map(int, taken)) == list(range(200))
