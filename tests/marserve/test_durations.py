"""Durations as people type them."""

from __future__ import annotations

import pytest

from marserve.durations import seconds
from marserve.errors import MarserveError


@pytest.mark.parametrize(
    ("text", "expected"), [("50ms", 0.05), ("0.05s", 0.05), ("5m", 300), (" 2s ", 2), ("1.5ms", 0.0015)]
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text, "--x", 0.001, 1000) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "50", "ms", "-5ms", "5 ms", "1e3s", "nan", "infs", "5h", "٥s", "0.05.1s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(MarserveError, match="--x takes a number and its unit, as in 50ms"):
        seconds(text, "--x", 0.001, 1000)


@pytest.mark.parametrize("text", ["0ms", "0.5ms", "1001s"])
def test_durations_out_of_range(text: str) -> None:
    with pytest.raises(MarserveError, match=r"--x must be from 0\.001s to 1000s"):
        seconds(text, "--x", 0.001, 1000)
