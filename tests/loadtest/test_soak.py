from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.soak import Stretch, judge, main
from tests.paths import ROOT
from tests.tools import need

STEADY = Stretch(100.0, 5.0, 10.0, 0, {"drag_pattern": 300.0, "java": 100.0})


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (STEADY, []),
        (Stretch(100.0, 5.0, 11.9, 0, {"drag_pattern": 300.0, "java": 107.0}), []),
        (Stretch(100.0, 5.0, 10.0, 0, {"drag_pattern": 300.0, "java": 108.1}), ["memory grew by 2.0 %"]),
        (Stretch(100.0, 5.0, 12.1, 0, {"drag_pattern": 300.0, "java": 100.0}), ["1.21 times"]),
        (Stretch(100.0, 5.0, 10.0, 3, {"drag_pattern": 300.0, "java": 0.0}), ["3 requests"]),
    ],
)
def test_limits(last: Stretch, words: list[str]) -> None:
    said = judge([STEADY, STEADY, last])
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said, strict=True))


def test_a_short_one_on_a_real_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is within its limits is the machine's affair; that it measures is ours."""
    need("wrk")
    monkeypatch.chdir(ROOT)
    code = main(["--minutes", "0.2", "--models", "drag_pattern", "--output", str(tmp_path / "soak.json")])
    found = json.loads((tmp_path / "soak.json").read_text())
    assert code == (1 if found["broken"] else 0)
    assert len(found["stretches"]) == 10
    for one in found["stretches"]:
        assert 0 < one["rps"] < 1.2 * found["capacity_rps"]
        assert list(one["memory_mb"]) == ["drag_pattern", "java", "rest"]
        assert min(one["memory_mb"].values()) > 10
        assert one["errors"] == 0


def test_what_cannot_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model-store", str(tmp_path)]) == 2
    assert "error:" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--minutes", "0"])
    assert "0.1 to 600" in capsys.readouterr().err
