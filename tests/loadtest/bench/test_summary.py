from __future__ import annotations

from typing import Any

from loadtest.bench.summary import rotated, summarize


def sample(rps: float, **changes: Any) -> dict[str, Any]:
    whole = {"rps": rps, "p50_ms": 2.0, "p99_ms": 9.0, "errors": 0, "saturated": False, "checked": 5, "wrong": 0}
    return whole | {"first_wrong": ""} | changes


def test_every_server_begins_once() -> None:
    names = ["a", "b", "c"]
    orders = [rotated(names, number) for number in range(4)]
    assert [order[0] for order in orders] == ["a", "b", "c", "a"]
    assert all(sorted(order) == names for order in orders)


def test_medians_and_spreads() -> None:
    summary = summarize([sample(300.0), sample(100.0, errors=4), sample(200.0)])
    assert (summary["rps"], summary["spread"]["rps"]) == (200.0, [100.0, 300.0])
    assert (summary["errors"], summary["spread"]["errors"]) == (0, [0, 4])
    assert summary["rounds"] == 3
    assert "first_wrong" not in summary


def test_one_wrong_answer_and_one_saturated_round_are_not_lost_in_a_median() -> None:
    samples = [sample(1.0), sample(1.0, wrong=1, first_wrong="nonsense", saturated=True), sample(1.0)]
    summary = summarize(samples)
    assert (summary["checked"], summary["wrong"], summary["first_wrong"]) == (15, 1, "nonsense")
    assert summary["saturated"] is True


def test_a_batch_size_is_one_that_was_measured() -> None:
    assert summarize([sample(1.0, batch=1), sample(1.0, batch=4)])["batch"] in (1, 4)


def test_nothing_measured_is_said() -> None:
    assert "error" in summarize([])
