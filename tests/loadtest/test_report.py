"""Limits held against given figures, and how those are printed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from loadtest.report import Limits, Row, Summary, broken_limits, format_summary, read_summary

GOOD = Row("good", 1000, 0, 99.5, 10, 20, 30)
BAD = Row("bad", 200, 10, 20.0, 100, 200, 1500)


@pytest.mark.parametrize(
    ("row", "limits", "lines"),
    [
        (GOOD, Limits(None, 0), []),
        (GOOD, Limits(30, 0), []),
        (GOOD, Limits(29.9, 0), ["good: p99 is 30 ms, at most 29.9 ms allowed"]),
        (BAD, Limits(None, 0.05), []),
        (BAD, Limits(None, 0.04), ["bad: error rate is 0.05 (10 of 200), at most 0.04 allowed"]),
        (
            BAD,
            Limits(100, 0),
            ["bad: p99 is 1500 ms, at most 100 ms allowed", "bad: error rate is 0.05 (10 of 200), at most 0 allowed"],
        ),
        (Row("none", 0, 0, 0, 0, 0, 0), Limits(None, 1), ["none: no request was finished"]),
    ],
)
def test_each_broken_limit_is_a_line(row: Row, limits: Limits, lines: list[str]) -> None:
    assert broken_limits(Summary((row,)), limits, [row.name]) == lines


def test_limits_hold_for_each_model_not_for_their_mean() -> None:
    assert broken_limits(Summary((GOOD, BAD)), Limits(None, 0.01), ["good", "bad"]) == [
        "bad: error rate is 0.05 (10 of 200), at most 0.01 allowed"
    ]


def test_a_model_that_was_never_asked_is_told() -> None:
    assert broken_limits(Summary((GOOD,)), Limits(None, 1), ["good", "bad"]) == ["bad: no request was finished"]


def test_a_summary_comes_back_from_its_file(tmp_path: Path) -> None:
    summary = Summary((GOOD, BAD), ((10, "bad", "503: busy"),), saturated=True)
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(asdict(summary)))
    assert read_summary(path) == summary


def test_the_table_names_models_and_the_most_frequent_reasons() -> None:
    reasons = tuple((100 - number, "bad", f"reason {number}") for number in range(8))
    text = format_summary(Summary((GOOD, BAD), reasons))
    assert [line.split()[0] for line in text.splitlines()[:3]] == ["model", "good", "bad"]
    assert "reason 4" in text
    assert "reason 5" not in text
    assert "and 3 other kinds" in text
    assert format_summary(Summary(())).startswith("model")


def test_a_saturated_locust_is_noted() -> None:
    assert "note: Locust" not in format_summary(Summary((GOOD,)))
    assert "note: Locust" in format_summary(Summary((GOOD,), saturated=True))
