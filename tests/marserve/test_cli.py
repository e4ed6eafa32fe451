"""The commands as a user types them: one line per mistake, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from marserve.cli import main
from tests.export.models import ROOT
from tests.marserve.test_client import rest_server

Capture = pytest.CaptureFixture[str]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["marserve", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def damaged(archive: Path, tmp_path: Path) -> Path:
    """The archive with another network inside."""
    target = tmp_path / "damaged.mar"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, b"another" if name == "model.onnx" else source.read(name))
    return target


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            [],
            ["serve", "stop", "top", "predict", "inspect", "evaluate", "tune", "pool", "signing-key", "sign", "verify"],
        ),
        (
            ["serve"],
            ["--model-store", "--config", "--port", "--models", "--pool", "--overrides", "--no-overrides"],
        ),
        (["serve"], ["--fresh", "--grace", "--detach"]),
        (["stop"], ["--port"]),
        (["top"], ["--port", "--metrics", "--interval", "--once", "limit", "70 %"]),
        (["predict"], ["name", "files", "--grpc", "--json", "--url", "--grpc-address"]),
        (["inspect"], ["archive", "--json"]),
        (["signing-key"], ["file", ".pub"]),
        (["sign"], ["archive", "--key", ".sig"]),
        (["verify"], ["archive", "--key", "--json"]),
        (["evaluate"], ["name", "--data_dir", "--model-store", "--json"]),
        (["tune"], ["name", "--slo-p99", "--samples", "--model-store", "--budget", "--write", "--output", "--json"]),
        (["index"], ["folder", "--output", "--archive", "images.index"]),
        (["similar"], ["file", "--index", "--k", "--sheet", "--json", "--archive", "similar.png"]),
        (["pool"], ["build"]),
        (["pool", "build"], ["folder", "--output", "--archive", "--min-confidence", "--attribution"]),
    ],
)
def test_help(arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, *arguments, "--help") == 0
    shown = capsys.readouterr().out.lower()
    assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--prot", "8080"],
        ["serve", "--port", "80"],
        ["serve", "--port", "many"],
        ["stop", "--port", "70000"],
        ["sevre"],
        ["predict", "model"],
        ["predict", "model", "/nowhere.jpg"],
        ["predict", "model", "/"],
        ["inspect"],
        ["evaluate"],
        ["evaluate", "model"],
        ["tune"],
        ["tune", "model"],
        ["index"],
        ["similar"],
        ["similar", "/nowhere.jpg"],
        ["similar", "/"],
        ["similar", "/dev/null", "--k", "0"],
    ],
)
def test_wrong_usage(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert "Error" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_inspect(archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "inspect", archive) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("red_or_blue  version 1.0\nno self-test, no signature beside it\n")
    assert "\n  task: image_classification\n" in shown
    assert '\n  labels: ["animal", "object"]\n' in shown
    assert "\n  note: a [bold] one\n" in shown
    assert "model.onnx" in shown
    assert "CHANGED" not in shown


def test_inspect_for_programs(archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "inspect", archive, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["version"], shown["changed"]) == ("red_or_blue", "1.0", [])
    assert shown["config"]["handler"]["task"] == "image_classification"
    assert shown["files"]["model.onnx"] > 0


def test_inspect_a_damaged_archive(damaged: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "inspect", damaged) == 1
    captured = capsys.readouterr()
    assert "model.onnx  CHANGED since it was packed" in captured.out
    assert captured.err == "error: model.onnx: not the files that were packed\n"
    assert run(monkeypatch, "inspect", damaged, "--json") == 1
    assert json.loads(capsys.readouterr().out)["changed"] == ["model.onnx"]


def test_inspect_a_foreign_archive(foreign: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "inspect", foreign) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("foreign  version 0.1\n")
    assert "batchSize: 2" in shown
    assert "handler.py" in shown
    assert run(monkeypatch, "inspect", foreign, "--json") == 0
    assert json.loads(capsys.readouterr().out)["config"]["since"] == "2026-01-02"


def test_inspect_shows_what_others_wrote_as_text(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """No markup, no emoji codes, nothing that a terminal obeys."""
    odd = tmp_path / "odd.mar"
    shutil.copy(archive, odd)
    with zipfile.ZipFile(odd, "a") as file:
        file.writestr("[/red] :cat: \x1b[2J\n.txt", b"")
    assert run(monkeypatch, "inspect", odd) == 1
    captured = capsys.readouterr()
    assert "[/red] :cat: \N{REPLACEMENT CHARACTER}[2J .txt" in captured.out
    assert len(captured.err.splitlines()) == 1
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize("content", [None, b"", b"hello", b"PK\x03\x04"])
def test_inspect_no_archive(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = tmp_path / "no.mar"
    if content is not None:
        path.write_bytes(content)
    assert run(monkeypatch, "inspect", path) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {path} ")
    assert len(captured.err.splitlines()) == 1


def test_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def reply(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if body == b"bad":
            return 400, {}, b'{"error": {"code": "undecodable", "message": "cut [/short]"}}'
        if body == b"question":
            return 200, {}, b'{"is_open": true, "confidence": 0.87, "predicted_class": "open", "message": "It is."}'
        return 200, {}, b'{"label": "[animal]", "confidence": 0.98}'

    monkeypatch.chdir(tmp_path)
    Path("[bold]photo.jpg").write_bytes(b"good")
    Path("bad.jpg").write_bytes(b"bad")
    Path("door.jpg").write_bytes(b"question")
    with rest_server(reply) as url:
        assert run(monkeypatch, "predict", "model", "[bold]photo.jpg", "--url", url) == 0
        shown = capsys.readouterr().out
        assert "[bold]photo.jpg" in shown
        assert "[animal]" in shown
        assert "0.98" in shown
        assert run(monkeypatch, "predict", "model", "door.jpg", "--url", url) == 0
        shown = capsys.readouterr().out
        assert "0.87" in shown
        assert "It is." not in shown  # the class and the confidence, not the whole reply
        assert run(monkeypatch, "predict", "model", "[bold]photo.jpg", "bad.jpg", "--url", url) == 1
        assert "error: undecodable: cut [/short]" in capsys.readouterr().out
        assert run(monkeypatch, "predict", "model", "[bold]photo.jpg", "bad.jpg", "--url", url, "--json") == 1
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"file": "[bold]photo.jpg", "label": "[animal]", "confidence": 0.98}
    assert lines[1]["failed"] == "undecodable: cut [/short]"


@pytest.mark.parametrize("options", [["--url"], ["--grpc", "--grpc-address"]])
def test_predict_without_a_server(
    options: list[str], archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        address = address if "--grpc" in options else f"http://{address}"
        assert run(monkeypatch, "predict", "model", archive, *options, address) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: no answer from {address}")
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("options", [["--port=1000"], ["--interval=0"], ["--interval=nan"], ["--interval=x"]])
def test_top_with_wrong_options(options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "top", "--once", *options) == 2
    assert options[0].partition("=")[0] in capsys.readouterr().err


def test_top_without_a_server(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        assert run(monkeypatch, "top", "--once", "--metrics", url) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: no answer from {url}: ")
    assert len(captured.err.splitlines()) == 1


def test_stop_without_a_server(runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "stop", "--port", "9000") == 1
    assert capsys.readouterr().err == "error: no marserve of yours is running on port 9000\n"


def serve_fails(runtime: Path, *arguments: object) -> str:
    """`marserve serve` as a process: it must end at once, with one line and without a process left; the line."""
    command = [sys.executable, "-m", "marserve", "serve", *map(str, arguments)]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    out, err = process.communicate(timeout=60)  # ends only when nobody holds the pipes any more
    assert (process.returncode, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not list(runtime.glob("*/*/state.json"))
    return err


@pytest.fixture
def store(archive: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(archive, folder / "red_or_blue.mar")
    return folder


CONFIG = f"--config={ROOT / 'config.properties'}"


def test_serve_without_archives(runtime: Path, tmp_path: Path) -> None:
    assert "holds no .mar archive" in serve_fails(runtime, CONFIG, f"--model-store={tmp_path}")


def test_serve_without_a_configuration(runtime: Path, store: Path) -> None:
    assert "cannot read the configuration" in serve_fails(runtime, "--config=/nowhere", f"--model-store={store}")


def test_serve_an_unknown_model(runtime: Path, store: Path) -> None:
    arguments = (CONFIG, f"--model-store={store}", "--models=red_or_blue,green")
    assert f"no green in {store}; it has red_or_blue" in serve_fails(runtime, *arguments)


def test_serve_a_broken_archive(runtime: Path, store: Path, damaged: Path) -> None:
    """Beside a good one only where none may fail."""
    shutil.copy(damaged, store)
    message = serve_fails(runtime, CONFIG, f"--model-store={store}", "--strict")
    assert "model.onnx differ from digests.json" in message
    alone = serve_fails(runtime, CONFIG, f"--model-store={store}", f"--models={damaged.stem}")
    assert alone == message


def test_serve_nothing_but_broken_archives(runtime: Path, store: Path, damaged: Path) -> None:
    shutil.copy(damaged, store)
    (store / "red_or_blue.mar").write_bytes(b"no archive")
    message = serve_fails(runtime, CONFIG, f"--model-store={store}")
    assert message.startswith("error: nothing can be served: ")
    assert "model.onnx differ from digests.json" in message
    assert "red_or_blue.mar is not a readable archive" in message


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_serve_on_a_port_in_use(runtime: Path, store: Path, detach: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = serve_fails(runtime, CONFIG, f"--model-store={store}", f"--port={port}", *detach)
    assert f"cannot listen on 127.0.0.1:{port} (" in message


def test_serve_with_no_pool(runtime: Path, store: Path, tmp_path: Path) -> None:
    message = serve_fails(runtime, CONFIG, f"--model-store={store}", f"--pool={tmp_path}")
    assert "is no pool" in message
