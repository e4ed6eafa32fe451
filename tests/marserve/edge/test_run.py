"""Mistakes before anything is started: one line each, as a user sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.bench.processes import free_port
from marserve.edge import process
from marserve.edge.process import first_alert
from marserve.errors import MarserveError
from tests.paths import ROOT
from tests.tools import need


@pytest.fixture
def settings(tmp_path: Path, runtime: Path) -> Path:
    return tmp_path / "edge.yaml"


def fails(*arguments: str) -> str:
    command = [sys.executable, "-m", "marserve", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def edge(verb: str, settings: Path, *more: str) -> str:
    return fails("edge", verb, "--config", str(settings), "--server-port", str(free_port()), *more)


@pytest.mark.parametrize("verb", ["start", "check"])
def test_wrong_settings(settings: Path, verb: str) -> None:
    need("haproxy")
    assert "cannot read the edge's settings" in edge(verb, settings)
    settings.write_text("limits: {x: 1}")
    assert "limits has unknown keys: x" in edge(verb, settings)
    settings.write_text("model: {in_flight: 51}")
    assert "REST and gRPC together would overflow TorchServe's own queue; 50 at most" in edge(verb, settings)
    settings.write_text("keys: keys.json")
    (settings.parent / "keys.json").write_text("{}")
    assert "is open to others" in edge(verb, settings)
    settings.write_text("tls: {certificate: nowhere.pem}")
    assert "nowhere.pem" in edge(verb, settings)
    port = str(free_port())
    settings.write_text("")
    message = fails("edge", verb, "--config", str(settings), "--port", port, "--server-port", port)
    assert "is the server's: choose another --port for the edge" in message


def test_a_longer_queue_of_torchserves(settings: Path) -> None:
    need("haproxy")
    settings.write_text("model: {in_flight: 51}")
    properties = settings.with_name("config.properties")
    properties.write_text((ROOT / "config.properties").read_text() + "job_queue_size=102\n")
    command = [sys.executable, "-m", "marserve", "edge", "check", "--config", str(settings)]
    done = subprocess.run([*command, "--server-config", str(properties)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{settings} is valid\n")


def test_keys_without_a_file(settings: Path) -> None:
    settings.write_text("")
    for verb in (["create", "a"], ["revoke", "a"], ["list"]):
        assert "names no file for keys: add `keys: keys.json`" in fails("keys", *verb, "--config", str(settings))


def test_a_port_that_is_no_edges(settings: Path) -> None:
    for verb in ("stop", "reload"):
        assert fails("edge", verb, "--port", "9000") == "error: no marserve edge of yours is running on port 9000\n"


def test_edge_port_alone(settings: Path) -> None:
    assert "--edge-port needs --edge" in fails("serve", "--edge-port", "9000")


def test_haproxy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(MarserveError, match="haproxy is not installed: run `make deps`"):
        process.find_haproxy()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "[NOTICE]   (1) : x\n[ALERT]    (12) : config : parsing [a:1] : no\n[ALERT] (2) : b\n",
            "parsing [a:1] : no",
        ),
        ("[ALERT]    (12) : Starting frontend rest: cannot bind\n", "Starting frontend rest: cannot bind"),
        ("boom\n", "boom"),
        ("", "it does not say why"),
    ],
)
def test_the_first_alert(said: str, reason: str) -> None:
    assert first_alert(said) == reason
