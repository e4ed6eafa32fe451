"""`marserve models` where there is no server, and what is wrong before one is asked. The rest is in tests/e2e."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from marserve.models.audit import Audit
from marserve.models.cli import _ago
from tests.marserve.test_cli import Capture, run


@pytest.fixture(autouse=True)
def state(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "models", "--help") == 0
    shown = capsys.readouterr().out
    for command in ("list", "register", "scale", "promote", "rollback", "remove", "history"):
        assert f" {command} " in shown


@pytest.mark.parametrize(
    "arguments", [["list"], ["register", "cat.mar"], ["promote", "cat", "2.0"], ["rollback", "cat"], ["list", "--json"]]
)
def test_no_server(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "models", *arguments, "--port", 9000) == 1
    captured = capsys.readouterr()
    expected = "error: no marserve of yours is running on port 9000: start it, or name its --port\n"
    assert (captured.out, captured.err) == ("", expected)


@pytest.mark.parametrize("workers", ["0", "two", "4-2", "1-", "-1", "1000", ""])
def test_no_number_of_workers(workers: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "models", "scale", "cat", "--workers", workers) == 2
    assert capsys.readouterr().err.startswith("error: --workers ")


def test_history(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    audit = Audit(9000)
    with audit.change("promote", "cat", "1.0", "2.0", digest="ab" * 32, default_changed=True):
        pass
    audit.record("register", "dog", detail="a reason\n\x1b[2J of two lines", failed=True)
    assert run(monkeypatch, "models", "history", "--port", 9000) == 0
    header, newest, eldest = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "WHEN (UTC)"
    assert "failed: a reason \N{REPLACEMENT CHARACTER}[2J of two lines" in newest
    assert eldest.split()[3:] == ["promote", "cat", "1.0", "2.0", "abababababab", "done"]
    assert run(monkeypatch, "models", "history", "cat", "--port", 9000, "--json") == 0
    [entry] = json.loads(capsys.readouterr().out)
    assert (entry["action"], entry["to_version"], entry["outcome"]) == ("promote", "2.0", "done")
    assert os.environ["XDG_STATE_HOME"] in str(audit.path)


def test_how_long_ago() -> None:
    assert _ago("") == ""
    assert _ago("2020-01-01T00:00:00.000Z").endswith(" d ago")
