"""The timing of a behaviour model: its own requests are good ones, and wrong options are said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.micro import as_columns, decoded, main, request
from tests.paths import ROOT


def test_both_forms_of_a_request_are_the_same_movement() -> None:
    listed = request(3, 50)
    first, second = (decoded(json.dumps(form).encode()) for form in (listed, as_columns(listed)))
    for axis in "xyt":
        assert getattr(first, axis).tolist() == getattr(second, axis).tolist()


def test_it_times_a_released_archive(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(ROOT / "model_store" / "drag_pattern.mar"), "--points=20", "--rounds=2"])
    assert "compact form" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--points=7"], ["--rounds=0"], ["nowhere.mar"]])
def test_wrong_options(wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
