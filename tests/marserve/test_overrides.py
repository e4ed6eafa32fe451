"""Overrides as an operator writes them: what is taken, what is refused, and what reaches TorchServe and the workers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from handlers import entry
from marserve.archive import Archive, read_archive
from marserve.errors import MarserveError
from marserve.overrides import (
    ENVIRONMENT,
    MOST,
    NETWORK,
    SERVER,
    Overrides,
    environment,
    find_overrides,
    obeys_network,
    read_overrides,
    shipped_network,
    shipped_server,
    snapshot,
    write_overrides,
)
from marserve.state import Plan
from marserve.tune import Settings
from marserve.tuning_machine import overrides_of, shipped_settings
from tests.e2e.archives import read_files, write_archive
from tests.marserve.conftest import PATIENT


def written(folder: Path, text: str, name: str = "red_or_blue") -> Path:
    path = folder / f"{name}.overrides.yaml"
    path.write_text(text)
    return path


def test_the_name_of_the_variable_is_the_handlers() -> None:
    assert ENVIRONMENT == entry.OVERRIDES


def test_what_an_archive_ships(archive: Path) -> None:
    found = read_archive(archive)
    config = yaml.safe_load(found.read("model-config.yaml"))
    assert shipped_server(found) == {key: config.get(key, SERVER[key]) for key in SERVER}
    assert shipped_network(found) == {key: config["handler"]["network"].get(key, NETWORK[key]) for key in NETWORK}
    assert shipped_server(replace(found, config={"batchSize": 0, "minWorkers": "3"})) == SERVER


def test_all_keys(archive: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "# mine\nbatchSize: 64\nhandler:\n  network: {chunk: 16, threads: 2}\n")
    found = find_overrides(tmp_path, [read_archive(archive)])
    assert found == {"red_or_blue": Overrides(path, {"batchSize": 64}, {"chunk": 16, "threads": 2})}
    shipped = shipped_server(read_archive(archive))["batchSize"]
    assert found["red_or_blue"].describe(read_archive(archive)).startswith(f"batchSize 64 (shipped: {shipped}), chunk ")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}", "handler: {network: {}}", "handler:\n"])
def test_empty_files_override_nothing(archive: Path, tmp_path: Path, text: str) -> None:
    written(tmp_path, text)
    assert find_overrides(tmp_path, [read_archive(archive)]) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batchsize: 4", r"the file has unknown keys: batchsize; known are batchSize, handler"),
        ("handler: {chunk: 4}", r"handler has unknown keys: chunk; known are network"),
        (
            "handler: {network: {file: other.onnx}}",
            r"handler\.network has unknown keys: file; known are chunk, threads",
        ),
        ("maxBatchDelay: 0", r"maxBatchDelay must be a whole number from 1 to 10000, not 0"),
        ("batchSize: true", "batchSize must be a whole number"),
        ("batchSize: 2.0", "batchSize must be a whole number"),
        ("batchSize: many", "batchSize must be a whole number .* not 'many'"),
        ("batchSize:", "batchSize must be a whole number .* not None"),
        ("handler: {network: {threads: -1}}", r"handler\.network\.threads must be a whole number"),
        ("minWorkers: 99", r"minWorkers \(99\) exceeds maxWorkers \(\d+\): set both"),
        ("[1]", "the file must be a section"),
        ("handler: 3", "handler must be a section"),
        ("a: [", "cannot read the overrides"),
        ("\x00", "cannot read the overrides"),
    ],
)
def test_mistakes(archive: Path, tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(MarserveError, match=said) as raised:
        read_overrides(path, read_archive(archive))
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_no_utf8_and_no_folder(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "red_or_blue.overrides.yaml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(MarserveError, match="cannot read the overrides"):
        read_overrides(path, read_archive(archive))
    with pytest.raises(MarserveError, match="is no folder"):
        find_overrides(tmp_path / "nowhere", [])


def test_an_archive_of_others_has_no_network(foreign: Path, tmp_path: Path) -> None:
    archive = read_archive(foreign)
    assert read_overrides(written(tmp_path, "batchSize: 4", "foreign"), archive).server == {"batchSize": 4}
    with pytest.raises(MarserveError, match="foreign has no network whose chunk could be set"):
        read_overrides(written(tmp_path, "handler: {network: {chunk: 4}}", "foreign"), archive)


def test_older_handlers_would_ignore_them(archive: Path, tmp_path: Path) -> None:
    old = tmp_path / "red_or_blue.mar"
    files = read_files(archive)
    write_archive(old, {**files, "entry.py": files["entry.py"].replace(ENVIRONMENT.encode(), b"MARSERVE_OTHER")})
    assert obeys_network(read_archive(archive))
    assert not obeys_network(read_archive(old))
    assert read_overrides(written(tmp_path, "batchSize: 4"), read_archive(old))
    with pytest.raises(MarserveError, match=r"older than overrides of handler\.network: pack it again"):
        read_overrides(written(tmp_path, "handler: {network: {chunk: 4}}"), read_archive(old))
    assert shipped_settings(read_archive(old)).threads is None


VALUES = st.integers(1, MOST)


@given(server=st.fixed_dictionaries({}, optional={"batchSize": VALUES, "maxBatchDelay": VALUES}), chunk=VALUES)
@PATIENT
def test_what_is_written_is_read_back(archive: Path, server: dict[str, int], chunk: int) -> None:
    path = archive.parent / "red_or_blue.overrides.yaml"
    overrides = Overrides(path, server, {"chunk": chunk})
    write_overrides(overrides, ["line one", "line: two"])
    assert read_overrides(path, read_archive(archive)) == overrides
    assert path.read_text().startswith("# line one\n# line: two\n")
    path.unlink()
    assert list(path.parent.glob("*.part")) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MarserveError, match=r"cannot write .*: No such file or directory"):
        write_overrides(Overrides(tmp_path / "nowhere" / "a.overrides.yaml"), [])


def test_only_what_differs_is_overridden(archive: Path, tmp_path: Path) -> None:
    found, path = read_archive(archive), tmp_path / "x"
    shipped = shipped_settings(found)
    assert not overrides_of(shipped, found, path)
    other = replace(shipped, workers=3, chunk=5)
    assert overrides_of(other, found, path) == Overrides(path, {"minWorkers": 3, "maxWorkers": 3}, {"chunk": 5})
    assert overrides_of(Settings(shipped.workers, 7, shipped.delay), found, path) == Overrides(path, {"batchSize": 7})


def test_the_workers_get_networks_only(tmp_path: Path) -> None:
    found = {"a": Overrides(tmp_path, {"batchSize": 3}), "b": Overrides(tmp_path, {}, {"chunk": 2})}
    assert json.loads(environment(found)[ENVIRONMENT]) == {"b": {"chunk": 2}}
    assert environment({"a": found["a"]}) == {}


def test_a_snapshot_has_every_archive(archive: Path, foreign: Path, tmp_path: Path) -> None:
    first, other = read_archive(archive), read_archive(foreign)
    second = replace(first, version="2.0", path=Path("second.mar"))
    overrides = {"red_or_blue": Overrides(tmp_path, {"batchSize": 1, "maxBatchDelay": 100}, {"chunk": 3})}
    models = json.loads(snapshot(Plan([first, second, other]), overrides, {"default_workers_per_model": "3"}))["models"]
    assert models["foreign"]["0.1"] == {
        "defaultVersion": True,
        "marName": "foreign.mar",
        "minWorkers": 3,
        "maxWorkers": 3,
        "batchSize": 2,
        "maxBatchDelay": 100,
        "responseTimeout": 120,
        "startupTimeout": 120,
    }
    versions = models["red_or_blue"]
    assert [versions[version]["defaultVersion"] for version in ("1.0", "2.0")] == [True, False]
    assert all((one["batchSize"], one["maxBatchDelay"]) == (1, 100) for one in versions.values())
    assert versions["2.0"]["marName"] == "second.mar"


def test_a_snapshot_would_hide_models_of_the_configuration(archive: Path) -> None:
    with pytest.raises(MarserveError, match="exclude each other: use --no-overrides"):
        snapshot(Plan([read_archive(archive)]), {}, {"models": "{}"})


def test_shipped_settings_of_a_model_without_a_network(archive: Path) -> None:
    found: Archive = replace(read_archive(archive), handler={"task": "random_images"})
    assert (shipped_settings(found).threads, shipped_settings(found).chunk) == (None, None)
