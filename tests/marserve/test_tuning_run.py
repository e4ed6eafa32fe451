"""What `marserve tune` checks before anything starts, and what it says at the end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from marserve.archive import read_archive
from marserve.errors import MarserveError
from marserve.report_tuning import plot, print_result, verdict
from marserve.tune import Measurement, Point, Result, Settings
from marserve.tuning_machine import read_requests
from marserve.tuning_run import Options, run
from tests.export.models import ROOT

SHIPPED, FASTER = Settings(2, 32, 1, 1, 32), Settings(1, 64, 1, 2, 32)
Capture = pytest.CaptureFixture[str]


def options(archive: Path, **changes: object) -> Options:
    given: dict[str, object] = {
        "name": archive.stem,
        "slo": "50ms",
        "samples": None,
        "model_store": archive.parent,
        "budget": "5m",
    }
    given |= {"config": ROOT / "config.properties", "write": False, "output": None, "as_json": False}
    return Options(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slo": "fast"}, "--slo-p99 takes a number"),
        ({"slo": "60s"}, "--slo-p99 must be"),
        ({"budget": "1s"}, "--budget must be"),
        ({"name": "nothing"}, "no nothing in"),
        ({"samples": Path("/nowhere")}, "cannot read the samples"),
        ({"write": True, "output": Path("/nowhere")}, "cannot write to /nowhere: name another folder with --output"),
        ({"config": Path("/nowhere")}, "cannot read the configuration"),
    ],
)
def test_mistakes(archive: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(MarserveError, match=said):
        run(options(archive, **changes))


def test_samples_have_the_type_of_their_suffix(archive: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.json", "c.png", "d.unheard"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "folder").mkdir()
    requests = read_requests(read_archive(archive), tmp_path)
    kinds = ["image/jpeg", "application/json", "image/png", "application/octet-stream"]
    assert [request.headers["content-type"] for request in requests] == kinds
    assert [request.body for request in requests] == [b"a.jpg", b"b.json", b"c.png", b"d.unheard"]
    assert requests[0].path == "/predictions/red_or_blue/1.0"
    with pytest.raises(MarserveError, match="holds no files to send"):
        read_requests(read_archive(archive), tmp_path / "folder")


def test_an_archive_without_an_example_needs_samples(foreign: Path) -> None:
    with pytest.raises(MarserveError, match="carries no example request: name a folder of requests with --samples"):
        read_requests(read_archive(foreign), None)


def result(*finals: Measurement, winner: Settings | None = None, interrupted: bool = False) -> Result:
    return Result(SHIPPED, winner, finals, 3 if finals else 0, finals, interrupted)


ONE = Measurement(SHIPPED, (Point(4, 100, 9, 20, 0.1), Point(8, 110, 30, 60, 0.1)))
TWO = Measurement(FASTER, (Point(8, 200, 12, 40, 0.95),))
BROKEN = Measurement(FASTER, failure="3 of 9 replies\nwere errors")


@pytest.mark.parametrize(
    ("found", "slo", "said"),
    [
        (result(ONE, TWO, winner=FASTER), 50, "200 req/s at 8 connections, p50 12.0 ms, p99 40.0 ms; as shipped 100 "),
        (result(ONE, TWO, winner=SHIPPED), 50, "the shipped settings are the best"),
        (result(ONE, TWO), 5, "nothing keeps p99 at 5 ms; nearest come workers 2, .* p99 20.0 ms"),
        (result(BROKEN), 5, "no settings were served without errors"),
        (result(interrupted=True), 5, "interrupted before anything was measured twice"),
    ],
)
def test_verdicts(found: Result, slo: float, said: str) -> None:
    assert re.search(said, verdict(found, slo))


def test_what_is_printed(capsys: Capture) -> None:
    broken = Measurement(Settings(9, 9, 9, 9, 9), failure=BROKEN.failure)
    print_result("m", Result(SHIPPED, FASTER, (ONE, TWO), 3, (ONE, TWO, broken), False), 50)
    shown = capsys.readouterr().out
    assert "disqualified: workers 9, threads 9, chunk 9, batch 9, delay 9 ms: 3 of 9 replies were errors\n" in shown
    assert "wrk itself kept a core busy" in shown
    assert [line.split()[0] for line in shown.splitlines()[2:4]] == ["shipped", "best"]


def test_plot() -> None:
    points = [(one.settings, point) for one in (ONE, TWO) for point in one.points]
    lines = plot(points, [points[0], points[2]], 50)
    assert (sum(line.count("#") for line in lines), sum(line.count(".") for line in lines[:-1])) == (2, 1)
    assert lines[0].startswith("     200 req/s ")
    assert lines[-1].split() == ["20.0", "ms", "p99", "60.0", "ms"]
    assert plot([], [], 50) == []
    assert plot(points[:1], points[:1], 20)
