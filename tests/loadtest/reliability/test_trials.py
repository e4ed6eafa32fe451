"""A short form of each trial, on a real server and edge. What a busy machine may miss is not asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.reliability.__main__ import main
from loadtest.reliability.trials import TRIALS, Options
from tests.e2e.archives import current_store
from tests.tools import need


@pytest.mark.parametrize("name", TRIALS)
def test_what_is_promised_holds(name: str) -> None:
    need("haproxy")
    need("wrk")
    outcome = TRIALS[name](Options(current_store(), seconds=8, bodies=60))
    assert outcome.broken == []
    assert outcome.figures


def test_a_broken_promise_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Refusals that are not what was expected are found and counted, and the healthy requests are not among them."""
    need("haproxy")
    monkeypatch.setattr("loadtest.reliability.asks._REFUSALS", (418,))
    output = tmp_path / "figures.json"
    command = ["poison", "--seconds", "6", "--model-store", str(current_store()), "--output", str(output)]
    assert main(command) == 1
    assert "broken: poison: edge: " in capfd.readouterr().err
    assert json.loads(output.read_text())["poison"]["figures"]["healthy wrongly answered, edge"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["boredom"], "there is no boredom"), (["--seconds", "1"], "6 to 3600"), (["--bodies", "1"], "20 to 1,000,000")],
)
def test_what_cannot_be_asked_for(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


def test_an_empty_store_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["poison", "--model-store", str(tmp_path)]) == 2
    assert "holds no .mar archive" in capsys.readouterr().err
