from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtest.bench import processes
from loadtest.bench.processes import Tree

# Starts one that leaves the session and loses its parent, and another that ignores Ctrl-C.
PARENT = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
subprocess.run([sys.executable, "-c", f"import subprocess; subprocess.Popen({sleep!r}, start_new_session=True)"])
subprocess.Popen(sleep)
print("SomeError: here it is", flush=True)
time.sleep(60)
"""


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_STOP_TIMEOUT", 1.0)
    with Tree([sys.executable, "-c", PARENT], {"A": "b"}, tmp_path, tmp_path / "log.txt") as tree:
        deadline = time.monotonic() + 30
        while not tree.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(tree.members()) == 3
        assert tree.memory_mb() > 1
        assert tree.last_words() == "SomeError: here it is"
    assert tree.members() == []


def test_others_are_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with Tree([sys.executable, "-c", "input()"], {}, tmp_path, tmp_path / "log.txt") as tree:
        assert other.pid not in [process.pid for process in tree.members()]
        assert os.getpid() not in [process.pid for process in tree.members()]
    assert other.poll() is None
    other.communicate(b"\n")
