"""Two pages -> figures: held to numpy and to what was observed, for whatever was observed."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from handlers.metrics import SECONDS, STAGES, Metrics
from marserve.rates import BUSY, Rates, Scrape, quantile, rates, read_samples, server_rates
from tests.marserve.conftest import PATIENT

Batch = tuple[float, float, float, list[int]]

seconds = st.floats(0, 6)
batches = st.lists(
    st.tuples(seconds, seconds, seconds, st.lists(st.sampled_from([200, 400, 404, 422, 500, 503]), min_size=1)),
    max_size=8,
)


def observe(metrics: Metrics, batches: list[Batch]) -> None:
    for decode, run, encode, codes in batches:
        metrics.observe({"decode": decode, "run": run, "encode": encode}, codes, [None] * len(codes))
    metrics.write()


def page(registry: CollectorRegistry, more: str = "") -> str:
    return generate_latest(registry).decode() + more


def torchserve(requests: int, microseconds: float, errors: int) -> str:
    labels = 'model_name="cat",model_version="default",hostname="vm",'
    counters = {
        f"ts_inference_requests_total{{{labels}}}": requests,
        f"ts_queue_latency_microseconds{{{labels}}}": microseconds,
        'Requests4XX{Level="Host",}': errors,
        'Requests5XX{Level="Host",}': 2 * errors,
    }
    return "".join(f"# TYPE {name.partition('{')[0]} counter\n{name} {value}\n" for name, value in counters.items())


def between(first: str, second: str, took: float = 1.0) -> list[Rates]:
    return rates(Scrape(100.0, read_samples(first)), Scrape(100.0 + took, read_samples(second)))


@PATIENT
@given(batches, batches, st.floats(0.1, 10), st.integers(1, 4))
def test_figures_are_of_what_was_between(before: list[Batch], after: list[Batch], took: float, workers: int) -> None:
    registry = CollectorRegistry()
    metrics = Metrics("cat", "1.0", registry)
    gauge = f'marserve_workers{{model="cat",version="1.0"}} {workers}\n'
    observe(metrics, before)
    first = page(registry, gauge)
    observe(metrics, after)
    (found,) = between(first, page(registry, gauge), took)
    codes = [code for *_, codes in after for code in codes]
    assert (found.model, found.version, found.workers) == ("cat", "1.0", workers)
    assert found.requests == pytest.approx(len(codes) / took)
    assert found.client_errors == pytest.approx(sum(400 <= code < 500 for code in codes) / took)
    assert found.server_errors == pytest.approx(sum(code >= 500 for code in codes) / took)
    assert found.batch == (pytest.approx(len(codes) / len(after)) if after else None)
    spent = [sum(batch[index] for batch in after) for index in range(3)]  # type: ignore[misc]
    for stage, total in zip(STAGES, spent, strict=True):
        expected = pytest.approx(total / len(codes), abs=1e-9) if codes else None
        assert found.stages[stage] == expected
    assert found.busy == pytest.approx(min(1, sum(spent) / took / workers), abs=1e-9)
    if after:
        assert found.p50 is not None
        assert found.p99 is not None
        assert 0 <= found.p50 <= found.p99 <= SECONDS[-1]
    else:
        assert (found.p50, found.p99) == (None, None)


@given(st.lists(st.floats(0, 5), min_size=1), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], q: float) -> None:
    buckets = {bound: float(sum(value <= bound for value in values)) for bound in (*SECONDS, math.inf)}
    found = quantile(q, buckets)
    true = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    upper = next(bound for bound in SECONDS if true <= bound)
    lower = max((bound for bound in SECONDS if bound < upper), default=0.0)
    assert found is not None
    assert lower - 1e-9 <= found <= upper + 1e-9


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        (0.5, {1.0: 10.0, 2.0: 20.0, math.inf: 20.0}, 1.0),
        (0.75, {1.0: 10.0, 2.0: 20.0, math.inf: 20.0}, 1.5),
        (0.25, {1.0: 10.0, 2.0: 20.0, math.inf: 20.0}, 0.5),
        (0.99, {1.0: 1.0, 2.0: 1.0, math.inf: 100.0}, 2.0),  # beyond the last bound nothing is known
        (0.5, {1.0: 0.0, 2.0: 0.0, 4.0: 8.0, math.inf: 8.0}, 3.0),
        (0.5, {1.0: 0.0, math.inf: 0.0}, None),
        (0.5, {}, None),
    ],
)
def test_quantiles_by_hand(q: float, buckets: dict[float, float], expected: float | None) -> None:
    assert quantile(q, buckets) == expected


def test_each_version_has_its_own_figures() -> None:
    registry = CollectorRegistry()
    text = page(registry)
    for version, size in (("1.0", 2), ("2.0", 6)):
        each = CollectorRegistry()
        observe(Metrics("cat", version, each), [(0.1, 0.1, 0.1, [200] * size)])
        text += page(each)
    found = between("", text)
    assert [(one.version, one.requests, one.workers, one.busy) for one in found] == [
        ("1.0", 2, 0, None),
        ("2.0", 6, 0, None),
    ]
    assert found[0].limit == "no worker"


def test_the_queue_is_the_workers_where_they_know_it() -> None:
    registry = CollectorRegistry()
    metrics = Metrics("cat", "1.0", registry)
    before = page(registry, torchserve(10, 5e6, 1))
    metrics.observe({"run": 0.5}, [200, 200], [None, None])
    metrics.write()
    (found,) = between(before, page(registry, torchserve(14, 7e6, 2)))
    assert found.stages["queue"] == 0.5
    metrics.observe({"run": 0.5}, [200, 200], [3.0, None])
    metrics.write()
    (found,) = between(before, page(registry, torchserve(14, 7e6, 2)))
    assert found.stages["queue"] == 3.0


def test_what_torchserve_did_while_it_did_not_answer_is_unknown() -> None:
    registry = CollectorRegistry()
    metrics = Metrics("cat", "1.0", registry)
    alone = page(registry)
    metrics.observe({"run": 0.5}, [200], [None])
    metrics.write()
    both = page(registry, torchserve(10, 5e6, 3))
    assert between(alone, both)[0].stages["queue"] is None
    before, after = Scrape(1.0, read_samples(alone)), Scrape(2.0, read_samples(both))
    assert server_rates(before, after).client_errors == 0
    (found,) = between(both, page(registry))
    assert found.stages["queue"] is None


def test_errors_of_the_whole_server() -> None:
    before = Scrape(1.0, read_samples(torchserve(1, 1, 10)))
    found = server_rates(before, Scrape(3.0, read_samples(torchserve(1, 1, 14))))
    assert (found.client_errors, found.server_errors) == (2, 4)


def test_a_server_that_was_started_anew_began_at_nothing() -> None:
    old, new = CollectorRegistry(), CollectorRegistry()
    observe(Metrics("cat", "1.0", old), [(0.1, 0.1, 0.1, [200] * 9)])
    observe(Metrics("cat", "1.0", new), [(0.1, 0.1, 0.1, [200] * 4)])
    (found,) = between(page(old), page(new))
    assert found.requests == 4


def test_the_end_of_a_worker_is_no_new_server() -> None:
    registry = CollectorRegistry()
    observe(Metrics("cat", "1.0", registry), [(0.1, 0.1, 0.1, [200] * 9)])
    workers = 'marserve_workers{model="cat",version="1.0"} '
    (found,) = between(page(registry, f"{workers}2\n"), page(registry, f"{workers}1\n"))
    assert found.requests == 0


@given(st.floats(0, 1), st.lists(st.floats(0, 9), min_size=4, max_size=4))
def test_the_limit_is_what_busy_workers_do_most(busy: float, spent: list[float]) -> None:
    stages = dict(zip(("queue", *STAGES), spent, strict=True))
    found = Rates("cat", "1.0", 2, 1, 0, 0, 1, 1, 1, stages, busy).limit
    if busy < BUSY:
        assert found == f"none: workers idle {100 * (1 - busy):.0f} %"
    else:
        assert stages[found] == max(spent[1:])
        assert found in STAGES


@given(st.text(alphabet=st.sampled_from('a_{}=",# \n\\1.eTYPEHL') | st.characters(), max_size=60))
def test_what_is_no_page_is_said(text: str) -> None:
    with suppress(ValueError):
        read_samples(text)
