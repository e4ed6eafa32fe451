"""One private folder per server, which nobody else gets while it runs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from marserve.errors import MarserveError
from marserve.rundir import RunDir, State
from tests.export.models import ROOT

HOLD = """
import os, sys
from marserve.rundir import RunDir, State
rundir = RunDir(9000)
rundir.lock()
rundir.make()
rundir.write_state(State(os.getpid(), ready=True, grace=1))
(rundir.temporary / "left over").write_text("x")
print("taken", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that holds port 9000's folder; it ends without removing anything."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "taken\n"
            yield process
        finally:
            process.kill()


def base(runtime: Path) -> Path:
    return runtime / f"marserve-{os.getuid()}"


def test_everything_is_private(runtime: Path) -> None:
    before = os.umask(0)
    try:
        rundir = RunDir(9000)
        rundir.lock()
        rundir.make()
    finally:
        os.umask(before)
    for folder in (base(runtime), rundir.root, rundir.logs, rundir.temporary, rundir.examples, rundir.metrics):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert rundir.root == base(runtime) / "9000"
    assert (base(runtime) / "9000.lock").stat().st_mode & 0o777 == 0o600


def test_open_to_others_is_refused(runtime: Path) -> None:
    base(runtime).mkdir()
    base(runtime).chmod(0o755)
    with pytest.raises(MarserveError, match="must be a folder that only you can open"):
        RunDir(9000)


def test_a_link_is_refused(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    base(runtime).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MarserveError, match="must be a folder that only you can open"):
        RunDir(9000)


def test_somebody_elses_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.getuid() + 1
    (runtime / f"marserve-{other}").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(MarserveError, match="must be a folder that only you can open"):
        RunDir(9000)


def test_something_in_the_way_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base(runtime).write_text("a file")
    with pytest.raises(MarserveError, match=r"cannot make the folder .*File exists"):
        RunDir(9000)
    base(runtime).unlink()
    base(runtime).symlink_to(runtime / "nowhere")
    with pytest.raises(MarserveError, match=r"cannot make the folder"):
        RunDir(9000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / "nowhere"))
    with pytest.raises(MarserveError, match=r"cannot make the folder .*No such file"):
        RunDir(9000)


def test_without_a_runtime_folder_the_temporary_one_serves(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(runtime))
    assert RunDir(9000).root == base(runtime) / "9000"


def test_a_second_server_is_refused_until_the_first_ends(runtime: Path) -> None:
    with holder() as first:
        rundir = RunDir(9000)
        with pytest.raises(MarserveError, match=r"running on port 9000 already: `marserve stop --port 9000`"):
            rundir.lock()
        assert rundir.running() == State(first.pid, ready=True, grace=1)
        assert (rundir.temporary / "left over").exists()
        RunDir(9001).lock()  # another port is another server
        first.kill()
        first.wait()
        assert rundir.running() is None
        assert (rundir.temporary / "left over").exists()
        rundir.lock()
        rundir.make()
        assert list(rundir.temporary.iterdir()) == []


def test_whoever_only_looks_keeps_nobody_out(runtime: Path) -> None:
    """A detaching `serve` asks `running` while its child takes the folder: the lock is theirs for a moment."""
    rundir = RunDir(9000)
    look = os.open(base(runtime) / "9000.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(look, fcntl.LOCK_SH)
    timer = threading.Timer(0.03, os.close, [look])
    timer.start()
    rundir.lock()
    rundir.make()
    timer.join()
    assert rundir.running() is None  # held, but without a state so far


def test_state_round_trip(runtime: Path) -> None:
    rundir = RunDir(9000)
    assert rundir.running() is None
    rundir.lock()
    rundir.make()
    for state in (State(123, ready=False, grace=1), State(123, ready=True, grace=1)):
        rundir.write_state(state)
        assert RunDir(9000).running() == state


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"pid": 1}', '{"pid": 1, "ready": true, "more": 1}'])
def test_a_state_that_cannot_be_read_is_none(runtime: Path, content: str) -> None:
    rundir = RunDir(9000)
    rundir.lock()
    rundir.make()
    (rundir.root / "state.json").write_text(content)
    assert rundir.running() is None


@pytest.mark.parametrize(("keep", "left"), [(True, ["logs"]), (False, [])])
def test_what_is_left(runtime: Path, keep: bool, left: list[str]) -> None:
    rundir = RunDir(9000)
    rundir.lock()
    rundir.make()
    rundir.write_state(State(1, ready=True, grace=1))
    (rundir.logs / "server.log").write_text("why")
    rundir.remove(keep_logs=keep)
    assert [path.name for path in rundir.root.glob("*")] == left
    rundir.remove(keep_logs=keep)  # twice is no error


def test_another_process_in_the_same_folder(runtime: Path) -> None:
    rundir = RunDir(9000)
    rundir.lock()
    rundir.make()
    for text in ("first", "second"):
        (rundir.logs / "server.log").write_text(text)
        (rundir.temporary / "unpacked").write_text("x")
        (rundir.metrics / f"{text}.db").write_text("x")
        rundir.renew()
    assert {path.name: path.read_text() for path in rundir.logs.iterdir()} == {"server.log.1": "second"}
    assert list(rundir.temporary.iterdir()) == []
    assert rundir.temporary.stat().st_mode & 0o777 == 0o700
    assert len(list(rundir.metrics.iterdir())) == 2  # a counter does not go back


def test_a_path_too_long_for_sockets_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with pytest.raises(MarserveError, match="too long for the workers' sockets"):
        RunDir(9000)
