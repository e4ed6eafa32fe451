"""Shared memory between a worker in a process of its own and this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from marserve.boot.slots import Slot, Slots, Work
from tests.paths import ROOT

WORKER = """
import sys
from pathlib import Path
from marserve.boot.slots import Slot
slot = Slot(Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    result = eval(line)
    print(result, flush=True)
"""


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, str(folder)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def ask(process: subprocess.Popen[str], code: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(code + "\n")
    return process.stdout.readline().strip()


def test_what_a_worker_has_is_seen_at_once(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    assert slots.work() == {}
    with worker(tmp_path) as process:
        assert slots.work() == {process.pid: Work(0, 0)}
        ask(process, "slot.take(3)")
        assert slots.work() == {process.pid: Work(0, 3)}
        ask(process, "slot.done()")
        ask(process, "slot.done()")  # it comes from a load and not from a batch
        ask(process, "slot.take(2)")
        assert slots.work() == {process.pid: Work(3, 2)}
    assert slots.work() == {}  # it is gone, and with it what it had


def test_all_workers_are_told_to_refuse(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    with worker(tmp_path) as early:
        assert ask(early, "slot.refusing") == "False"
        slots.refuse()
        assert ask(early, "slot.refusing") == "True"
        with worker(tmp_path) as late:
            assert ask(late, "slot.refusing") == "True"


def test_one_turn_at_a_time(tmp_path: Path) -> None:
    mine = Slot(tmp_path)
    with worker(tmp_path) as other:
        assert ask(other, "slot.turn() > 0") == "True"
        with pytest.raises(BlockingIOError):
            mine.turn()
    descriptor = mine.turn()
    with pytest.raises(BlockingIOError):
        Slot(tmp_path).turn()
    os.close(descriptor)


def test_what_is_no_workers_file_is_passed_over(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    (tmp_path / str(os.getpid())).touch()  # only just being made
    (tmp_path / "turn").touch()
    assert slots.work() == {}
