"""`marserve models` on a real server: versions come, become the default and go, and no request notices."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import pytest

from marserve.cli import main
from tests.e2e.archives import current_store, read_files, with_version, write_archive
from tests.e2e.edge import PUPIL, PUPIL_CONFIG
from tests.e2e.server import Server, serving
from tests.e2e.test_boot import write_bare
from tests.e2e.test_state import again

CLIENTS = 4
OCTETS = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with version 1.0 of `pupil`, and `drag_pattern`."""
    folder = tmp_path_factory.mktemp("store")
    write_bare(folder, "pupil", PUPIL, PUPIL_CONFIG)
    shutil.copy(current_store() / "drag_pattern.mar", folder)
    return folder


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    with serving("--model-store", str(store)) as running:
        yield running


def run(server: Server, *arguments: str) -> tuple[int, str, str]:
    """`marserve models` in this process, which saves a second each time: exit code, output, error output."""
    output, errors = io.StringIO(), io.StringIO()
    command, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["marserve", "models", *arguments, "--port", str(server.port)]
    try:
        with redirect_stdout(output), redirect_stderr(errors), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = command
        signal.signal(signal.SIGTERM, handler)
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.getvalue(), errors.getvalue()


def models(server: Server, *arguments: str) -> Any:
    """What one says that must work."""
    code, output, errors = run(server, *arguments, "--json")
    assert (code, errors) == (0, ""), errors
    return json.loads(output)


def refused(server: Server, *arguments: str) -> str:
    """The one line of one that must not work."""
    code, output, errors = run(server, *arguments)
    assert (code, output, errors.count("\n")) == (1, "", 1)
    return errors


def listed(server: Server, model: str) -> dict[str, dict[str, Any]]:
    return {row["version"]: row for row in models(server, "list") if row["model"] == model}


def pupil(folder: Path, version: str, handler: str = PUPIL) -> str:
    write_bare(folder, "pupil", handler, PUPIL_CONFIG, version)
    return str(folder / f"pupil-{version}.mar")


def ask(server: Server, text: str, version: str = "") -> httpx.Response:
    return httpx.post(f"{server.url}/predictions/pupil/{version}".rstrip("/"), content=text, headers=OCTETS, timeout=30)


@contextmanager
def load(server: Server) -> Iterator[Counter[tuple[int, str]]]:
    """Clients that go on asking for the default version; the answers so far."""
    answers: Counter[tuple[int, str]] = Counter()
    over = threading.Event()

    def client() -> None:
        with httpx.Client(base_url=server.url, headers=OCTETS, timeout=30) as http:
            while not over.is_set():
                reply = http.post("/predictions/pupil", content=b"version")
                answers[reply.status_code, json.loads(reply.text).get("version", reply.text)] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        try:
            yield answers
        finally:
            over.set()
        for done in clients:
            done.result()  # no connection was lost either


def test_versions_change_under_load_and_no_request_fails(server: Server, tmp_path: Path) -> None:
    with load(server) as answers:
        models(server, "register", pupil(tmp_path, "2.0"))
        for _ in range(4):
            assert models(server, "promote", "pupil", "2.0")["was"] == "1.0"
            assert ask(server, "version").json()["version"] == "2.0"
            assert models(server, "rollback", "pupil")["now"] == "1.0"
            assert ask(server, "version").json()["version"] == "1.0"
        assert models(server, "scale", "pupil", "--workers", "2")["workers"] == 2
        assert models(server, "scale", "pupil:1.0", "--workers", "1")["workers"] == 1
        models(server, "remove", "pupil", "2.0")
    assert set(answers) == {(200, "1.0"), (200, "2.0")}
    changes = [entry for entry in models(server, "history", "pupil") if entry["default_changed"]]
    assert [(entry["action"], entry["from_version"], entry["to_version"]) for entry in changes] == [
        ("rollback", "2.0", "1.0"),
        ("promote", "1.0", "2.0"),
    ] * 4
    assert {entry["outcome"] for entry in changes} == {"done"}
    assert "no default before 1.0 is known" in refused(server, "rollback", "pupil")


def test_a_version_gets_the_settings_that_a_start_would_give_it(server: Server, store: Path, tmp_path: Path) -> None:
    """Also those that TorchServe may take for not given, and fewer workers than the archive has."""
    second = tmp_path / "elsewhere.mar"
    write_archive(second, with_version(read_files(store / "drag_pattern.mar"), "2.0"))
    (store / "drag_pattern.overrides.yaml").write_text(
        "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 1\nmaxBatchDelay: 100\n"
    )
    registered = models(server, "register", str(second))
    assert registered["archive"] == str(store / "drag_pattern-2.0.mar")
    row = listed(server, "drag_pattern")["2.0"]
    keys = ("workers", "ready", "minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout")
    assert [row[key] for key in keys] == [1, 1, 1, 1, 1, 100, 20]
    assert not row["default"]
    assert "drag_pattern 2.0 is registered already, from this archive" in refused(server, "register", str(second))
    write_archive(second, {**read_files(second), "more.txt": b"more"})
    assert "registered already, from another archive" in refused(server, "register", str(second))
    models(server, "remove", "drag_pattern", "2.0")
    assert "holds another drag_pattern 2.0" in refused(server, "register", str(second))
    (store / "drag_pattern.overrides.yaml").unlink()
    again = models(server, "register", str(store / "drag_pattern-2.0.mar"), "--workers", "3", "--promote")
    assert (again["workers"], again["switched"]["now"]) == (3, "2.0")
    row = listed(server, "drag_pattern")["2.0"]
    assert (row["workers"], row["batchSize"], row["default"]) == (3, 16, True)
    models(server, "rollback", "drag_pattern")


def test_nothing_is_left_of_a_version_that_does_not_start(server: Server, store: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in store.iterdir())
    error = refused(server, "register", pupil(tmp_path, "3.0", f"import nowhere_to_be_found\n{PUPIL}"))
    assert "ModuleNotFoundError: No module named 'nowhere_to_be_found'" in error
    files = read_files(store / "drag_pattern.mar")
    mute = {**with_version(files, "3.0"), "handlers/payload.py": b"raise ValueError('of no use')\n"}
    write_archive(tmp_path / "mute.mar", mute)
    assert "of no use" in refused(server, "register", str(tmp_path / "mute.mar"))
    assert "3.0" not in listed(server, "pupil") | listed(server, "drag_pattern")
    assert sorted(path.name for path in store.iterdir()) == before
    newest = models(server, "history", "--limit", "2")
    assert [entry["outcome"] for entry in newest] == ["failed", "failed"]
    assert "nowhere_to_be_found" in newest[1]["detail"]


def test_what_is_queued_for_a_version_is_answered_before_it_goes(server: Server, tmp_path: Path) -> None:
    models(server, "register", pupil(tmp_path, "4.0"))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, server, "sleep 0.5", "4.0") for _ in range(4)]
        while not listed(server, "pupil")["4.0"]["queue"]:
            assert not asked[-1].done()
        assert "--force" in refused(server, "remove", "pupil", "4.0", "--wait", "0s")
        models(server, "remove", "pupil", "4.0")
        assert all(reply.done() for reply in asked)
    assert [reply.result().status_code for reply in asked] == [200] * 4
    assert ask(server, "version", "4.0").status_code == 404


def test_what_is_refused(server: Server, store: Path, tmp_path: Path) -> None:
    assert "is the only version: --force" in refused(server, "remove", "pupil", "1.0")
    assert "pupil has no version 9.0 here; it has 1.0" in refused(server, "promote", "pupil", "9.0")
    assert "no model nobody is served" in refused(server, "scale", "nobody", "--workers", "1")
    write_bare(store, "broken", PUPIL)
    broken = store / "broken-1.0.mar"
    broken.write_bytes(broken.read_bytes()[:-30])
    assert "not a readable archive" in refused(server, "register", str(broken))
    broken.unlink()
    archive = pupil(tmp_path, "5.0")
    models(server, "register", archive)
    httpx.put(f"{server.management}/models/pupil/5.0", params={"min_worker": 0, "max_worker": 0}, timeout=30)
    assert "has no worker that is READY" in refused(server, "promote", "pupil", "5.0")
    models(server, "scale", "pupil:5.0", "--workers", "1")
    models(server, "promote", "pupil", "5.0")
    assert "promote another version" in refused(server, "remove", "pupil", "5.0")
    models(server, "remove", "pupil", "1.0")
    error = refused(server, "rollback", "pupil")
    command = f"marserve models register {store / 'pupil-1.0.mar'}"
    assert command in error
    models(server, *command.split()[2:])
    assert models(server, "rollback", "pupil")["now"] == "1.0"
    models(server, "remove", "pupil", "5.0")


def test_a_killed_server_comes_back_with_what_was_registered_and_promoted(
    server: Server, store: Path, tmp_path: Path
) -> None:
    """The last of these tests: it kills the server that they share."""
    models(server, "register", pupil(tmp_path, "6.0"), "--promote")
    server.process.send_signal(signal.SIGKILL)  # at once: what has been said to be done is kept already
    server.process.wait()
    with again(server.port, store) as restored:
        assert "pupil 6.0 as the default" in restored
        assert {version: row["default"] for version, row in listed(server, "pupil").items()} == {
            "1.0": False,
            "6.0": True,
        }
        assert models(server, "rollback", "pupil")["now"] == "1.0"
        assert ask(server, "version").json()["version"] == "1.0"
