"""The audit log: nothing that is done goes missing, and the way back is the way that was come."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import MarserveError
from marserve.models.audit import Audit, Entry, default_before
from tests.paths import ROOT

KILLED = """
import os, signal, sys
from pathlib import Path
from marserve.models.audit import Audit
with Audit(8080, Path(sys.argv[1])).change("promote", "cat", "1.0", "2.0", default_changed=True):
    os.kill(os.getpid(), signal.SIGKILL)
"""
MANY = """
import sys
from pathlib import Path
from marserve.models.audit import Audit
for _ in range(20):
    with Audit(8080, Path(sys.argv[1])).change("scale", "cat"):
        pass
"""


def promote(audit: Audit, was: str, now: str, action: str = "promote") -> None:
    with audit.change(action, "cat", was, now, default_changed=True):
        pass


def test_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    audit = Audit(8080, tmp_path / "new")
    with audit.change("promote", "cat", "1.0", "2.0", "/store/cat.mar", "abc", "why", default_changed=True):
        [entry] = audit.entries()
        assert entry.outcome == "begun"
    audit.record("rollout", "dog", "1.0", "2.0", "def", "5 % of 100 requests")
    newest, entry = audit.entries()
    assert (newest.action, newest.model, newest.outcome) == ("rollout", "dog", "done")
    assert entry.who.startswith("alice as ")
    assert entry.time.endswith("+00:00")
    texts = (
        entry.model,
        entry.from_version,
        entry.to_version,
        entry.archive,
        entry.digest,
        entry.detail,
        entry.outcome,
    )
    assert texts == ("cat", "1.0", "2.0", "/store/cat.mar", "abc", "why", "done")
    assert audit.entries("cat", 5) == [entry]
    assert stat.S_IMODE(audit.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(audit.path.parent.stat().st_mode) == 0o700


def test_a_change_that_fails_is_there_with_its_reason(tmp_path: Path) -> None:
    audit = Audit(8080, tmp_path)
    with pytest.raises(MarserveError), audit.change("promote", "cat", "1.0", "2.0", default_changed=True):
        raise MarserveError("no worker")
    [entry] = audit.entries()
    assert (entry.outcome, entry.detail) == ("failed", "no worker")
    assert audit.previous_default("cat", "2.0") is None


def test_a_change_that_is_killed_stays_begun(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [entry.outcome for entry in Audit(8080, tmp_path).entries()] == ["begun"]


def test_two_commands_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda _: subprocess.run(command, cwd=ROOT, check=False, timeout=60), range(2)):
            assert done.returncode == 0
    entries = Audit(8080, tmp_path).entries()
    assert [entry.outcome for entry in entries] == ["done"] * 40


def test_nothing_is_changed_where_nothing_can_be_logged(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = []
    audit = Audit(8080, tmp_path / "file" / "folder")
    with pytest.raises(MarserveError, match="cannot write the audit log"), audit.change("promote", "cat"):
        done.append("change")
    audit = Audit(8080, tmp_path)
    audit.path.write_text("no database, but long enough to be taken for one" * 100)
    message = r"cannot write the audit log .*not a database.*nothing is changed"
    with pytest.raises(MarserveError, match=message), audit.change("promote", "cat"):
        done.append("change")
    with pytest.raises(MarserveError, match="cannot read the audit log"):
        audit.entries()
    assert done == []


def test_a_disk_that_is_full_in_between(tmp_path: Path) -> None:
    """The change is made, its entry says that it was begun, and the user is told."""
    audit = Audit(8080, tmp_path)
    full = "CREATE TRIGGER full BEFORE UPDATE ON changes BEGIN SELECT RAISE(FAIL, 'full'); END"
    with pytest.raises(MarserveError, match="the change is made"), audit.change("promote", "cat", "1.0", "2.0"):
        sqlite3.connect(audit.path).execute(full).connection.close()
    assert [entry.outcome for entry in audit.entries()] == ["begun"]


def test_the_default_before(tmp_path: Path) -> None:
    audit = Audit(8080, tmp_path)
    assert audit.previous_default("cat", "1.0") is None
    promote(audit, "1.0", "2.0")
    assert audit.previous_default("dog", "2.0") is None
    promote(audit, "2.0", "2.0")  # it was that already
    promote(audit, "2.0", "3.0", "rollout")
    assert audit.previous_default("cat", "3.0") == "2.0"
    promote(audit, "3.0", "2.0", "rollback")
    assert audit.previous_default("cat", "2.0") == "1.0"
    promote(audit, "2.0", "1.0", "rollback")
    assert audit.previous_default("cat", "1.0") is None
    promote(audit, "1.0", "3.0")
    assert audit.previous_default("cat", "3.0") == "1.0"
    assert audit.previous_default("cat", "7.0") == "3.0"  # something else has made that one the default
    promote(audit, "7.0", "8.0")
    assert audit.previous_default("cat", "8.0") == "7.0"
    promote(audit, "8.0", "7.0", "rollback")
    assert audit.previous_default("cat", "7.0") == "3.0"


def entry(was: str, now: str, action: str = "promote") -> Entry:
    return Entry("", "", action, "cat", was, now, "", "", "", "done", default_changed=1)


@given(versions=st.lists(st.integers(0, 5).map(str), min_size=2, max_size=8))
def test_rollbacks_go_all_the_way_back(versions: list[str]) -> None:
    entries = [entry(was, now) for was, now in pairwise(versions)]
    back = versions[-1:]
    while (before := default_before(entries, back[-1])) is not None:
        entries.append(entry(back[-1], before, "rollback"))
        back.append(before)
    assert back == [version for version, _ in groupby(versions)][::-1]
