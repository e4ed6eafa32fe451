from __future__ import annotations

import random

import pytest

from marserve.shadow.series import KEPT, Series


def test_what_is_kept_stands_for_all() -> None:
    series = Series()
    assert series.summary() is None
    values = [random.random() for _ in range(2 * KEPT)]
    for value in values:
        series.add(value)
    series.add(7)
    summary = series.summary()
    assert summary is not None
    assert len(series.kept) == KEPT
    assert (summary.count, summary.max) == (2 * KEPT + 1, 7)
    assert summary.mean == pytest.approx((sum(values) + 7) / (2 * KEPT + 1))
    assert [summary.p50, summary.p95, summary.p99] == pytest.approx([0.5, 0.95, 0.99], abs=0.02)
