"""What a worker measures: counted exactly, cheaply, and only where somebody collects it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from handlers import metrics
from handlers.metrics import SECONDS, Metrics, Stages, observe_all, waited
from tests.paths import ROOT

NOW = 1_790_000_000.25
WORKER = """
import sys
from types import SimpleNamespace
from handlers import metrics

context = SimpleNamespace(model_name="dog", manifest={"model": {"modelVersion": 2}})
found = metrics.load(context)
if found:
    found.observe({"decode": 0.001, "run": 0.002, "encode": 0.003}, [200, 422, 200], [None, None, 1.0])
    found.write()
print(bool(found), "prometheus_client" in sys.modules)
"""


def seconds(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"marserve_{name}", {"model": "cat", "version": "1.0", **labels})


def worker(folder: str | None) -> tuple[list[str], str]:
    """A process of its own: prometheus_client looks at the variable when it is imported."""
    environment = {name: value for name, value in os.environ.items() if name != metrics.FOLDER}
    environment |= {"PYTHONPATH": str(ROOT)} | ({metrics.FOLDER: folder} if folder is not None else {})
    command = [sys.executable, "-W", "error", "-c", WORKER]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def histogram() -> tuple[Histogram, CollectorRegistry]:
    registry = CollectorRegistry()
    return Histogram("seconds", "Some.", buckets=SECONDS, registry=registry), registry


def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.floats(0, 10) | st.sampled_from(SECONDS), max_size=40))
def test_many_at_once_are_as_one_after_the_other(values: list[float]) -> None:
    (one, single), (all_, many) = histogram(), histogram()
    for value in values:
        one.observe(value)
    observe_all(all_, values)
    expected = samples(single)
    total = expected.pop(("seconds_sum", ""))
    found = samples(many)
    assert found.pop(("seconds_sum", "")) == pytest.approx(total)
    assert found == expected


def test_a_batch() -> None:
    registry = CollectorRegistry()
    found = Metrics("cat", "1.0", registry)
    assert seconds(registry, "replies_total", code="200") == 0
    found.observe({"decode": 0.25, "run": 0.5, "encode": 0.0625}, [200, 200, 415], [None] * 3)
    found.write()
    assert seconds(registry, "stage_seconds_sum", stage="run") == 0.5
    assert seconds(registry, "stage_seconds_count", stage="run") == 1
    assert seconds(registry, "stage_seconds_count", stage="queue") == 0
    assert seconds(registry, "request_seconds_sum") == 3 * 0.8125
    assert seconds(registry, "request_seconds_count") == 3
    assert seconds(registry, "batch_size_bucket", le="4.0") == 1
    assert seconds(registry, "batch_size_bucket", le="2.0") == 0
    assert seconds(registry, "replies_total", code="200") == 2
    assert seconds(registry, "replies_total", code="415") == 1


def test_batches_are_written_by_themselves_and_once() -> None:
    registry = CollectorRegistry()
    found = Metrics("cat", "1.0", registry)
    for number in range(1000):
        found.observe({"decode": 0.25, "run": 0.5, "encode": 0.25}, [200] * (1 + number % 2), [None] * (1 + number % 2))
    deadline = time.monotonic() + 10
    while seconds(registry, "replies_total", code="200") != 1500 and time.monotonic() < deadline:
        time.sleep(0.05)
    found.write()
    assert seconds(registry, "replies_total", code="200") == 1500
    assert seconds(registry, "request_seconds_sum") == 1500
    assert seconds(registry, "stage_seconds_sum", stage="run") == 500
    assert seconds(registry, "batch_size_bucket", le="1.0") == 500


def test_waits_count_where_they_are_known() -> None:
    registry = CollectorRegistry()
    found = Metrics("cat", "1.0", registry)
    found.observe({"run": 0.5}, [200, 200, 200], [1.0, None, 2.0])
    found.write()
    assert seconds(registry, "stage_seconds_count", stage="queue") == 2
    assert seconds(registry, "stage_seconds_sum", stage="queue") == 3
    assert seconds(registry, "request_seconds_count") == 3
    assert seconds(registry, "request_seconds_sum") == 1.5 + 0.5 + 2.5


def test_stages_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 10.0, 12.0, 15.0])
    monkeypatch.setattr(metrics, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    stages = Stages()
    stages.start()
    stages.end("decode")
    stages.end("run")
    assert stages.seconds == {"decode": 2.0, "run": 3.0, "encode": 0.0}


@pytest.mark.parametrize(
    ("start", "wait"),
    [
        ("t=1790000000.000", 0.25),  # NGINX: seconds
        ("t=1790000000", 0.25),
        (" 1789999990 ", 10.25),
        ("t=1790000000000", 0.25),  # HAProxy: milliseconds
        ("t=1790000000000000", 0.25),  # Apache: microseconds
        ("t=1790000001", None),  # the future
        ("t=1789996400", None),  # more than an hour ago
        ("t=0", None),
        ("t=-1", None),
        ("t=nan", None),
        ("t=inf", None),
        ("t=1e999", None),
        ("t=", None),
        ("now", None),
        ("t=" + "9" * 5000, None),
        (None, None),
        ({"content-type": "text/plain"}, None),  # a form's field of that name
        (1790000000, None),
    ],
)
def test_waits(start: object, wait: float | None) -> None:
    assert waited(start, NOW) == wait


@given(st.text())
def test_no_header_is_an_error(start: str) -> None:
    assert (waited(start, NOW) or 0.0) >= 0


def test_without_a_folder_nothing_is_loaded() -> None:
    assert worker(None) == (["False", "False"], "")


def test_a_folder_that_is_none_costs_the_metrics_alone(tmp_path: Path) -> None:
    (state, _), said = worker(str(tmp_path / "missing"))
    assert state == "False"
    assert "no metrics: PROMETHEUS_MULTIPROC_DIR=" in said


def test_without_the_library_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert metrics.load(None) is None


def test_a_worker_leaves_its_files(tmp_path: Path) -> None:
    assert worker(str(tmp_path))[0] == ["True", "True"]
    assert sorted(path.name.partition("_")[0] for path in tmp_path.iterdir()) == ["counter", "histogram"]
