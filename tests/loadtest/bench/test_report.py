from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.bench.report import print_tables, write_results
from loadtest.bench.summary import summarize

MACHINE = {
    "cpu": "a CPU", "cores": 2, "python": "3.11.7", "date": "2026-01-02", "commit": "abc", "rounds": 2, "seconds": 1,
    "versions": {"marserve": "0.1.0", "mosec": "1.2.3"},
}  # fmt: skip


def results() -> dict[str, Any]:
    figures = {"p50_ms": 2.0, "p99_ms": 9.0, "errors": 0, "saturated": False, "checked": 5, "wrong": 1}
    ours = summarize([{"rps": 200.0, **figures}, {"rps": 100.0, **figures}])
    theirs = summarize([{"rps": 75.0, **figures, "saturated": True}])
    failed = {"error": "cannot be installed: no | such wheel"}
    limit = summarize([{"rps": 900.0, "p50_ms": 1.0, "p99_ms": 1.0, "errors": 0}])
    return {
        "machine": MACHINE,
        "workloads": {"tabular_c1": {"marserve": ours, "mosec": theirs, "ray": failed, "limit": limit}},
        "servers": {"marserve": {"start_s": 1.5, "memory_mb": 300.4}, "mosec": {}, "ray": failed, "limit": {}},
    }


def test_three_files_are_written(tmp_path: Path) -> None:
    written = write_results(results(), tmp_path / "new" / "here.json", "python -m loadtest.bench --rounds 2")
    assert [path.name for path in written] == ["here.json", "here.md", "here.png"]
    assert json.loads(written[0].read_text()) == results()
    assert written[2].read_bytes().startswith(b"\x89PNG")
    page = written[1].read_text()
    assert "python -m loadtest.bench --rounds 2" in page
    assert "| marserve | 150 | 100-200 | 2.00 | 9.00 | 1.00 | 0 | 2 of 10 |" in page
    assert "| mosec | 75 (wrk at its limit) | 75-75 | 2.00 | 9.00 | 0.50 | 0 | 1 of 5 |" in page
    assert r"| ray | failed | cannot be installed: no \| such wheel |" in page
    assert "| limit | 900 | 900-900 | 1.00 | 1.00 | 6.00 | 0 |  |" in page
    assert "| marserve | 0.1.0 | 1.5 | 300 |" in page
    assert "![requests per second](here.png)" in page


def test_a_failed_server_is_in_the_table() -> None:
    out = Console(file=io.StringIO(), width=200)
    print_tables(results(), out)
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert "ray" in text
    assert "cannot be installed" in text


def test_without_marserve_nothing_is_compared_with_it(tmp_path: Path) -> None:
    found = results()
    del found["workloads"]["tabular_c1"]["marserve"], found["servers"]["marserve"]
    assert "| mosec | 75 (wrk at its limit) | 75-75 | 2.00 | 9.00 |  | 0 |" in (
        write_results(found, tmp_path / "x.json", "")[1].read_text()
    )
