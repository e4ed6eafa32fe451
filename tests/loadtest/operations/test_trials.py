"""A short form of every trial on a real server behind its edge."""

from __future__ import annotations

import pytest

from loadtest.operations.__main__ import main
from loadtest.operations.trials import TRIALS, Options
from tests.e2e.archives import current_store
from tests.tools import need


@pytest.mark.parametrize("name", TRIALS)
def test_what_is_promised_holds(name: str) -> None:
    need("haproxy")
    outcome = TRIALS[name](Options(current_store(), seconds=3, requests=400))
    assert outcome.broken == []
    assert outcome.figures


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["boredom"], "there is no boredom"),
        (["--seconds", "1"], "2 to 3600"),
        (["--requests", "1"], "100 to 1,000,000"),
    ],
)
def test_what_cannot_be_asked_for(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err
