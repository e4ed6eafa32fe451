"""Priority and cost of real processes; workers of a server are in tests/e2e/test_shadow.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from marserve.boot.slots import Slot
from marserve.shadow import priority
from marserve.shadow.cost import Cost, processor_seconds

BUSY = """
import sys, threading
threading.Thread(target=sys.stdin.read, daemon=True).start()
sum(range(20_000_000))
print("done", flush=True)
sys.stdin.buffer.raw.read(1)
"""


@pytest.fixture
def busy() -> Iterator[int]:
    """A process of two threads that has worked."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def test_all_threads_get_the_lowest_priority(busy: int) -> None:
    threads = [int(path.name) for path in Path(f"/proc/{busy}/task").iterdir()]
    assert len(threads) == 2
    gone = 2**22 - 1
    assert priority.lowered([busy, gone]) == []
    priority.lower([busy, gone])
    assert priority.lowered([busy, gone]) == [busy]
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_IDLE}
    priority.lower([busy])  # again, as each second


def test_processor_time_per_request(busy: int, tmp_path: Path) -> None:
    assert processor_seconds(busy) > 0
    cost = Cost(tmp_path)
    cost.look([os.getpid()])
    assert cost.per_request is None
    slot = Slot(tmp_path)
    slot.take(4)
    slot.done()
    used = processor_seconds(os.getpid())
    while processor_seconds(os.getpid()) < used + 0.2:
        sum(range(100_000))
    cost.look([os.getpid(), 2**22 - 1])
    assert cost.per_request is not None
    assert cost.per_request >= 0.049  # 0.2 s of 4 requests
