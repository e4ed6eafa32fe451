"""When a version is good enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.rollout.judge import Answer, Limits, Tally, judge

LIMITS = Limits(max_error=0.01, max_p99=80, min_requests=100)


def tally(good: int = 0, failed: int = 0, refused: int = 0, slow: int = 0) -> Tally:
    found = Tally()
    for count, answer in (
        (good, Answer(10, "200")),
        (failed, Answer(10, "500", failed=True)),
        (refused, Answer(10, "422", refused=True)),
        (slow, Answer(200, "200")),
    ):
        for _ in range(count):
            found.add(answer)
    return found


@pytest.mark.parametrize(
    ("new", "old", "said"),
    [
        (tally(), tally(), ""),
        (tally(good=1000), tally(good=1000), ""),
        (tally(good=990, failed=10), tally(), ""),
        (tally(good=989, failed=11), tally(), "11 of 1,000 requests failed, more than 1 % (11 x 500)"),
        (tally(failed=1), tally(), ""),  # one of the hundred that there have to be
        (tally(failed=2), tally(), "2 of 2 requests failed, more than 1 % (2 x 500)"),
        (tally(good=990, slow=10), tally(), ""),
        (tally(good=989, slow=11), tally(), "11 of 1,000 requests took over 80 ms: p99 is 200 ms"),
        (tally(good=900, refused=100), tally(good=900, refused=100), ""),
        (tally(good=900, refused=100), tally(good=50), ""),  # too few to compare with
        (
            tally(good=900, refused=100),
            tally(good=950, refused=50),
            "100 of 1,000 requests were refused as wrong, and 5.0% by the version before",
        ),
    ],
)
def test_a_version_is_judged_by_what_failed_was_slow_or_refused(new: Tally, old: Tally, said: str) -> None:
    assert judge(new, old, LIMITS) == said


def test_without_a_limit_time_does_not_count() -> None:
    assert judge(tally(slow=1000), tally(), Limits(max_p99=None)) == ""


@given(st.lists(st.integers(0, 5000), min_size=1), st.floats(1, 100))
def test_a_percentile_is_the_least_time_that_so_many_kept(times: list[int], percent: float) -> None:
    found = Tally()
    for milliseconds in times:
        found.add(Answer(milliseconds, "200"))
    least = found.percentile(percent)
    assert least is not None
    assert sum(one <= least for one in times) >= len(times) * percent / 100
    assert sum(one < least for one in times) < len(times) * percent / 100
