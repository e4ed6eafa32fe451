"""One gate for all that is served, whoever asks; and what a configuration asks for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from marserve.errors import MarserveError
from marserve.rundir import RunDir
from marserve.settings import read_properties, write_properties
from marserve.state import plan
from marserve.trust import signing
from marserve.trust.admission import admit, required, trusted_by
from tests.paths import ROOT


@pytest.fixture
def store(archive: Path, tmp_path: Path) -> Path:
    """Two archives, of which the first is signed; the keys are beside it."""
    folder = tmp_path / "store"
    folder.mkdir()
    signing.make_key(tmp_path / "key")
    for name in ("a.mar", "b.mar"):
        shutil.copy(archive, folder / name)
    signing.sign(folder / "a.mar", signing.read_private_key(tmp_path / "key"))
    return folder


def test_admission(store: Path, foreign: Path, tmp_path: Path) -> None:
    trusted = tmp_path / "key.pub"
    assert admit(store / "a.mar", trusted).name == "red_or_blue"
    with pytest.raises(MarserveError, match=r"b\.mar is not signed"):
        admit(store / "b.mar", trusted)
    assert admit(store / "b.mar", None).name == "red_or_blue"
    trusted.unlink()  # keys that are gone admit nothing
    with pytest.raises(MarserveError, match=r"key\.pub does not exist"):
        admit(store / "a.mar", trusted)
    content = (store / "a.mar").read_bytes()
    (store / "a.mar").write_bytes(content[:-9])
    with pytest.raises(MarserveError, match=r"a\.mar is not a readable archive"):
        admit(store / "a.mar", None)


def test_a_plan_names_the_archive_that_may_not_be_served(store: Path, tmp_path: Path) -> None:
    read = partial(admit, trusted=tmp_path / "key.pub")
    assert [one.path.name for one in plan(store, ["a"], None, read).archives] == ["a.mar"]
    found = plan(store, [], None, read)
    assert [one.path.name for one in found.archives] == ["a.mar"]
    assert [one.what for one in found.failures] == ["b.mar"]
    assert "b.mar is not signed" in found.failures[0].reason
    for names, strict in (([], True), (["b"], False)):
        with pytest.raises(MarserveError, match=r"b\.mar is not signed"):
            plan(store, names, None, read, strict)


def test_what_a_configuration_asks_for(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.properties"

    def asked(line: str) -> Path | None:
        config.write_text(f"default_workers_per_model=1\n{line}\n")
        return required(read_properties(config), config)

    assert asked("") is None
    monkeypatch.chdir("/")
    assert asked("require_signature=key.pub") == tmp_path / "key.pub"
    assert asked(f"require_signature={tmp_path}/key.pub") == tmp_path / "key.pub"
    for line, complaint in (("key", "private key"), ("store/a.mar", "no public key"), ("", "must name a file")):
        with pytest.raises(MarserveError, match=complaint):
            asked(f"require_signature={line}")


def test_torchserve_does_not_get_the_key(tmp_path: Path) -> None:
    write_properties(tmp_path / "written", {"a": "1", "require_signature": "keys.pem", "b": "2"})
    assert read_properties(tmp_path / "written") == {"a": "1", "b": "2"}


def test_a_running_server_says_whom_it_trusts(runtime: Path) -> None:
    rundir = RunDir(8080)
    rundir.make()
    assert trusted_by(rundir) is None
    rundir.trusted.write_text("keys")
    assert trusted_by(rundir) == rundir.trusted
    rundir.make()
    assert trusted_by(rundir) is None


def test_without_signatures_nothing_of_cryptography_is_loaded(store: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import marserve.cli, marserve.serve\n"
        "from marserve.trust.admission import admit, required\n"
        "admit(Path(sys.argv[1]), required({}, Path()))\n"
        "print('cryptography' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(store / "a.mar")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
