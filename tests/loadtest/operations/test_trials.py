"""A short form of every trial on a real server behind its edge."""

from __future__ import annotations

import pytest

from loadtest.operations.trials import TRIALS, Options
from tests.e2e.archives import current_store
from tests.tools import need


@pytest.mark.parametrize("name", TRIALS)
def test_what_is_promised_holds(name: str) -> None:
    need("haproxy")
    outcome = TRIALS[name](Options(current_store(), seconds=3, requests=400))
    assert outcome.broken == []
    assert outcome.figures
