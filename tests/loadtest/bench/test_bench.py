"""The whole way, short: real servers, one second each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtest.bench import environments
from loadtest.bench.__main__ import main
from loadtest.bench.processes import MARK
from loadtest.bench.servers import SERVERS
from tests.tools import need


def run(path: Path, *servers: str) -> dict[str, Any]:
    need("wrk")
    arguments = ["--servers", *servers, "--workloads", "tabular_c1", "--rounds", "1", "--seconds", "1"]
    assert main([*arguments, "--output", str(path)]) == 0
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def left_over() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if MARK in process.environ():
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_servers_are_measured_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(left_over())
    # FastAPI is in this environment too, and answers the same from here as from its own.
    monkeypatch.setitem(SERVERS, "fastapi", dataclasses.replace(SERVERS["fastapi"], locked=False))
    results = run(tmp_path / "out.json", "marserve", "fastapi", "limit")
    assert set(left_over()) <= before
    measured = results["workloads"]["tabular_c1"]
    assert list(measured) == ["marserve", "fastapi", "limit"]
    for name in ("marserve", "fastapi"):
        assert measured[name]["rps"] > 0
        assert 0 < measured[name]["p50_ms"] <= measured[name]["p99_ms"]
        assert measured[name]["errors"] == 0
        assert measured[name]["checked"] > 0
        assert measured[name]["wrong"] == 0
        assert 0 < measured[name]["generator_cpu"] < 1.1
        assert results["servers"][name]["start_s"] > 0
        assert results["servers"][name]["memory_mb"] > 10
        assert results["machine"]["versions"][name]
    assert measured["limit"]["rps"] > 0
    assert measured["limit"]["rps_without_decoding"] > 0
    assert results["servers"]["marserve"]["largest_worker_rss_mb"]["drag_pattern"] > 10
    assert results["machine"]["cores"] >= 1
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png"}


def test_a_peer_that_cannot_be_installed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    (tmp_path / "mosec.txt").write_text("this is no requirement\n")
    monkeypatch.setattr(environments, "BUILD", tmp_path)
    monkeypatch.setattr(environments.make_environment, "__defaults__", (tmp_path / "peers",))
    results = run(tmp_path / "out.json", "mosec", "limit")
    assert "cannot be installed" in results["workloads"]["tabular_c1"]["mosec"]["error"]
    assert "cannot be installed" in results["servers"]["mosec"]["error"]
    assert results["workloads"]["tabular_c1"]["limit"]["rps"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--servers", "nginx"], "invalid choice: 'nginx'"),
        (["--workloads", "video_c1"], "invalid choice: 'video_c1'"),
        (["--rounds", "0"], "takes a whole number from 1 to 3600, not '0'"),
        (["--seconds", "1.5"], "takes a whole number from 1 to 3600, not '1.5'"),
        (["--name", "../x"], "takes letters, digits"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
