"""A real worker process of TorchServe's with the boot folder on its path; the test is its front end."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from marserve.boot.slots import Slots
from marserve.shadow.copies import Backlog, Receiver
from tests.paths import ROOT

BOOT = ROOT / "marserve" / "boot"
HANDLER = """
import json, os

class Plain:
    def initialize(self, context):
        self.initialized, self.batches = True, 0
        os.environ["MARSERVE_MEMORY_LIMIT_MB"] = os.environ.get("LIMIT", "0")

    def handle(self, rows, context):
        self.batches += 1
        return [json.dumps([os.getpid(), self.batches, "MARSERVE_RESUME" in os.environ])] * len(rows)
"""
END = struct.pack("!i", -1)


def field(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


def batch(*ids: str) -> bytes:
    requests = (field(name.encode()) + END + field(b"body") + field(b"") + field(b"x") + END for name in ids)
    return b"I" + b"".join(requests) + END


class FrontEnd:
    """TorchServe's side of the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def load(self, folder: Path) -> None:
        parts = [b"L", field(b"plain"), field(str(folder).encode()), struct.pack("!i", 4), field(b"plain.py")]
        self._connection.sendall(b"".join([*parts, END, field(b""), b"\1"]))
        code, message = self._int(), self._field()
        assert (code, message, self._int()) == (200, b"loaded model plain", -1)

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def replies(self) -> tuple[int, str, dict[str, bytes]]:
        """The batch's code and message, and the bodies by request."""
        code, message = self._int(), self._field().decode()
        bodies = {}
        while (length := self._int()) != -1:
            name = self._take(length).decode()
            self._field()  # content type
            self._int()  # status
            self._field()  # its phrase
            for _ in range(2 * self._int()):  # headers
                self._field()
            bodies[name] = self._field()
        return code, message, bodies

    def ask(self) -> Any:
        self.send(batch("a"))
        code, _, bodies = self.replies()
        assert code == 200
        return json.loads(bodies["a"])

    def close(self) -> None:
        self._connection.close()

    def _int(self) -> int:
        (value,) = struct.unpack("!i", self._take(4))
        return int(value)

    def _field(self) -> bytes:
        return self._take(self._int())

    def _take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self._connection.recv(length - len(data))
            assert part, "the worker has gone"
            data += part
        return data


@contextmanager
def working(folder: Path, limit: int) -> Iterator[tuple[FrontEnd, subprocess.Popen[bytes], Path]]:
    """A loaded worker, its process, and what it has printed."""
    (folder / "plain.py").write_text(HANDLER)
    for name in ("slots", "taps", "out", "MAR-INF"):
        (folder / name).mkdir()
    (folder / "MAR-INF" / "MANIFEST.json").write_text('{"model": {"modelVersion": "1.0"}}')
    spec = find_spec("ts")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    path, output = folder / "s.9000", folder / "out" / "printed"
    command = [
        sys.executable,
        str(package / "model_service_worker.py"),
        "--sock-type",
        "unix",
        "--sock-name",
        str(path),
    ]
    command += ["--metrics-config", str(package / "configs" / "metrics.yaml")]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{BOOT}:{folder}", "LIMIT": str(limit)}
    environment |= {"MARSERVE_TAPS": str(folder / "taps")}
    environment |= {"MARSERVE_SLOTS": str(folder / "slots"), "TS_DECODE_INPUT_REQUEST": "false"}
    with (
        output.open("wb") as file,
        subprocess.Popen(command, env=environment, cwd=folder, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        try:
            deadline = time.monotonic() + 30
            while "Torch worker started." not in output.read_text():
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.02)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                connection.connect(str(path))
                front_end = FrontEnd(connection)
                front_end.load(folder)
                yield front_end, process, output
        finally:
            process.kill()


def ask_until_replaced(front_end: FrontEnd, count: int = 0) -> int:
    """How many answers it has given in all. The next batch waits in the connection while the worker changes."""
    deadline = time.monotonic() + 30
    replaced = False
    while not replaced:
        assert time.monotonic() < deadline
        _, batches, replaced = front_end.ask()
        count += 1
        assert batches == (1 if replaced else count)
    return count


def test_a_worker_over_its_limit_is_replaced_and_no_batch_is_lost(tmp_path: Path) -> None:
    with working(tmp_path, limit=1) as (front_end, process, output):
        asked = ask_until_replaced(front_end)
        assert front_end.ask() == [process.pid, 2, True]  # it lasts for a while
        assert "MB resident, the limit is 1 MB (handler.memory_limit_mb)" in output.read_text()
        deadline = time.monotonic() + 30
        while Slots(tmp_path / "slots").work()[process.pid].answered != asked + 1:  # of both processes
            assert time.monotonic() < deadline
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"resume.py" in command
        assert b"model_service_worker.py" in command  # what finds workers by this name still does
    assert process.wait(30) != 0


def test_a_replacement_ends_with_its_front_end(tmp_path: Path) -> None:
    with working(tmp_path, limit=1) as (front_end, process, _):
        ask_until_replaced(front_end)
        front_end.close()
        assert process.wait(30) == 0


@pytest.mark.parametrize("limit", [0, 100_000])
def test_a_worker_within_its_limit_stays(tmp_path: Path, limit: int) -> None:
    with working(tmp_path, limit) as (front_end, process, _):
        assert [front_end.ask() for _ in range(3)] == [[process.pid, count, False] for count in (1, 2, 3)]


def test_a_replacement_waits_for_its_turn(tmp_path: Path) -> None:
    from marserve.boot.slots import Slot

    with working(tmp_path, limit=1) as (front_end, process, _):
        other = Slot(tmp_path / "slots").turn()
        for count in range(1, 14):  # longer than from one look at the memory to the next
            assert front_end.ask() == [process.pid, count, False]
            time.sleep(0.1)
        os.close(other)
        ask_until_replaced(front_end, 13)


def test_a_shadow_goes_on_with_a_replacement(tmp_path: Path) -> None:
    backlog = Backlog(most=10**6)
    with (
        working(tmp_path, limit=1) as (front_end, _, _),
        Receiver(tmp_path / "taps", "plain", "1.0", 1.0, backlog) as receiver,
    ):
        asked = ask_until_replaced(front_end)
        last = front_end.ask()
        replies = (json.loads(copy.reply.body) for copy in backlog)
        assert next(replies)[2] is False
        assert last in replies  # or it waits for ever
    assert receiver.seen <= asked + 1


def test_what_comes_too_late_is_refused(tmp_path: Path) -> None:
    slots = None
    with working(tmp_path, limit=0) as (front_end, process, _):
        slots = Slots(tmp_path / "slots")
        assert front_end.ask() == [process.pid, 1, False]
        slots.refuse()
        front_end.send(batch("a", "b"))
        code, message, bodies = front_end.replies()
        assert (code, message) == (503, "The server is about to end: send the request again.")
        assert sorted(bodies) == ["a", "b"]
        assert slots.work()[process.pid].working == 0
