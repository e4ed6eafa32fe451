"""What a worker hands over, and that it never waits; the other side is the real one, or nobody."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from marserve.boot import tap, wire
from marserve.shadow.copies import Backlog, Batch, Receiver, unpack


def batch(ids: Sequence[str], body: bytes = b"x", headers: Mapping[str, str] | None = None) -> wire.Batch:
    return wire.Batch([dict(headers or {})] * len(ids), [{"body": body}] * len(ids), dict(enumerate(ids)))


def reply(ids: Sequence[str], body: bytes = b"{}") -> bytes:
    """TorchServe's message with all replies."""
    parts = [wire._INT.pack(200), wire._field("Prediction success")]
    parts += [wire._field(one) + wire._head(200, None, ()) + wire._INT.pack(len(body)) + body for one in ids]
    return b"".join([*parts, wire._END])


def answer(own: tap.Tap, *ids: str, body: bytes = b"x", headers: Mapping[str, str] | None = None) -> None:
    own.taken(batch(ids, body, headers))
    own.replied(reply(ids))
    own.answered()


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker's tap ends with its process; here it is closed."""
    taps: list[tap.Tap] = []
    own = tap.Tap.__init__

    def made(self: tap.Tap, folder: str | None) -> None:
        own(self, folder)
        taps.append(self)

    monkeypatch.setattr(tap.Tap, "__init__", made)
    yield
    for one in taps:
        one.close()


def worker(folder: Path, model: str = "twin", version: str = "1.0") -> tap.Tap:
    (folder / "MAR-INF").mkdir(exist_ok=True)
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps({"model": {"modelVersion": version}}))
    own = tap.Tap(str(folder))
    own.load({"modelName": model.encode(), "modelPath": str(folder).encode()})
    return own


@contextmanager
def listening(folder: Path, sample: float = 1.0) -> Iterator[socket.socket]:
    """A shadow that receives nothing by itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        path = folder / "s"
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        (folder / "twin@1.0").write_text(json.dumps({"socket": "s", "sample": sample}))
        yield listener


def received(connection: socket.socket) -> list[Batch]:
    """All that waits in the connection."""
    connection.setblocking(False)
    found: list[Batch] = []
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        except BlockingIOError:
            return found
        if not message:
            return found
        with open(descriptors[0], "rb") as file:  # noqa: PTH123
            file.seek(0)
            found.append(unpack(file.read()))


def test_a_batch_is_copied_with_its_replies(tmp_path: Path) -> None:
    own = worker(tmp_path)
    with listening(tmp_path) as listener:
        answer(own, "a", "b", body=b"\xff" * 5_000_000, headers={"explain": "True"})
        connection, _ = listener.accept()
        with connection:
            (found,) = received(connection)
    assert (found.seen, found.sampled) == (2, 2)
    assert [copy.request_id for copy in found.copies] == ["a", "b"]
    assert found.copies[1].bodies == {"body": b"\xff" * 5_000_000}
    assert found.copies[1].headers == {"explain": "True"}
    assert found.copies[1].reply == (200, b"{}")
    assert 0 < found.copies[1].seconds < 10


def test_without_a_shadow_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = worker(tmp_path)
    answer(own, "a")  # it has looked
    monkeypatch.setattr(own, "_connect", lambda: pytest.fail("looks again at once"))
    monkeypatch.setattr(own, "_hand_over", lambda *_: pytest.fail("hands over"))
    answer(own, "b")


def test_a_worker_of_another_version_or_of_no_archive_copies_nothing(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        answer(worker(tmp_path, version="2.0"), "a")
        answer(worker(tmp_path, model="other"), "a")
        bare = tap.Tap(str(tmp_path))
        bare.load({"modelName": b"twin", "modelPath": b"/nowhere"})
        answer(bare, "a")
        nowhere = tap.Tap(None)
        nowhere.load({"modelName": b"twin", "modelPath": str(tmp_path).encode()})
        answer(nowhere, "a")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_warm_up_is_no_clients(tmp_path: Path) -> None:
    own = worker(tmp_path)
    with listening(tmp_path) as listener:
        answer(own, "a", headers={tap.WARM_UP_HEADER: "1"})
        answer(own, "b")
        connection, _ = listener.accept()
        with connection:
            (found,) = received(connection)
    assert [copy.request_id for copy in found.copies] == ["b"]
    assert found.seen == 1


def test_a_share_of_the_requests_is_copied(tmp_path: Path) -> None:
    own = worker(tmp_path)
    ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(4000)]
    with listening(tmp_path, sample=0.25) as listener:
        for start in range(0, len(ids), 500):
            answer(own, *ids[start : start + 500])
        connection, _ = listener.accept()
        with connection:
            found = received(connection)
    assert found[-1].seen == 4000
    assert found[-1].sampled == sum(len(one.copies) for one in found)
    assert 0.22 < found[-1].sampled / 4000 < 0.28


def test_who_does_not_receive_loses_copies_and_is_told_how_many(tmp_path: Path) -> None:
    own = worker(tmp_path)
    with listening(tmp_path) as listener:
        for number in range(300):  # nobody receives them: a worker that waited would hang here
            answer(own, f"{number}")
        connection, _ = listener.accept()
        with connection:
            early = received(connection)
            answer(own, "last")
            (last,) = received(connection)
    assert 0 < len(early) < 300
    assert (last.seen, last.sampled) == (301, 301)


def test_a_shadow_that_is_gone_is_forgotten_and_the_next_one_is_found(tmp_path: Path) -> None:
    own = worker(tmp_path)
    with listening(tmp_path) as listener:
        answer(own, "a")
        listener.accept()[0].close()
    answer(own, "b")  # killed: its file is still there
    own._next = 0.0
    with listening(tmp_path) as listener:
        answer(own, "c")
        connection, _ = listener.accept()
        connection.close()
    with listening(tmp_path) as listener:
        answer(own, "d")  # finds out while it hands over
        connection, _ = listener.accept()
        with connection:
            (found,) = received(connection)
    assert [copy.request_id for copy in found.copies] == ["d"]
    assert found.seen == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"socket": "s", "sample": "x"}', '{"sample": 1e999}'])
def test_a_damaged_file_is_no_shadow(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    own = worker(tmp_path)
    (tmp_path / "twin@1.0").write_text(content)
    answer(own, "a")
    assert own._socket is None
    assert "no more requests are copied" in caplog.text


def test_a_fault_while_another_shadow_is_found_costs_the_copy_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = worker(tmp_path)
    with listening(tmp_path) as listener:
        answer(own, "a")
        listener.accept()[0].close()
    (tmp_path / "twin@1.0").write_text("damaged")
    answer(own, "b")
    assert "no more requests are copied" in caplog.text


def test_any_fault_costs_the_copy_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = worker(tmp_path)
    with listening(tmp_path):
        own.taken(batch(["a"]))
        own.replied(None)  # no message that could be written
        own.answered()
        assert "no more requests are copied" in caplog.text
        answer(own, "b")
        assert own._socket is None


def test_names_of_models_are_names_of_files(tmp_path: Path) -> None:
    own = worker(tmp_path, "a/b@c", "1/2")
    backlog = Backlog()
    with Receiver(tmp_path, "a/b@c", "1/2", 1.0, backlog) as receiver:
        answer(own, "a")
        assert next(iter(backlog)).request_id == "a"
        assert (receiver.seen, receiver.sampled) == (1, 1)
    answer(own, "b")
    assert own._socket is None
