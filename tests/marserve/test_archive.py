"""Whatever lies in a model store: read, or refused in a line that a person can read."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marserve.archive import REFUSED, Archive, find_archives, read_archive, sort_out
from marserve.errors import MarserveError
from tests.export.models import ROOT, pack_red_or_blue
from tests.marserve.conftest import PATIENT

MANIFEST = "MAR-INF/MANIFEST.json"
Members = dict[str, bytes]

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
any_content = st.binary(max_size=60) | st.text().map(str.encode) | any_json.map(json.dumps).map(str.encode)


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def write(path: Path, contents: Members) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


def read_or_refuse(path: Path) -> Archive | str:
    """Anything but an Archive or a MarserveError of one line fails the test."""
    try:
        return read_archive(path)
    except MarserveError as error:
        message = str(error)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


@pytest.fixture
def changed(archive: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the archive with some members replaced, or left out where None."""

    def change(replaced: dict[str, bytes | None]) -> Path:
        contents = members(archive) | replaced
        return write(tmp_path / "changed.mar", {k: v for k, v in contents.items() if v is not None})

    return change


def test_a_good_archive(archive: Path) -> None:
    found = read_archive(archive)
    assert (found.name, found.version, found.changed) == ("red_or_blue", "1.0", ())
    assert found.handler["labels"] == ["animal", "object"]
    assert found.config["maxBatchDelay"] == 1
    assert found.metadata["name"] == "red_or_blue"
    assert found.files == {name: len(content) for name, content in members(archive).items()}
    assert found.read("model.onnx") == members(archive)["model.onnx"]


def test_unpacking_a_folder_takes_only_its_own_files(archive: Path, tmp_path: Path) -> None:
    path = write(
        tmp_path / "pool.mar",
        members(archive) | {"pool/a.png": b"a", "pool/deep/b.png": b"b", "pool/../c.png": b"c", "pools/d.png": b"d"},
    )
    read_archive(path).unpack("pool", tmp_path / "unpacked")
    assert {path.name: path.read_bytes() for path in (tmp_path / "unpacked").iterdir()} == {"a.png": b"a"}
    assert not (tmp_path / "c.png").exists()


@settings(PATIENT, max_examples=120)
@given(st.data())
def test_cut_short(archive: Path, data: st.DataObject) -> None:
    good = archive.read_bytes()
    path = archive.with_name("cut.mar")
    path.write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    assert isinstance(read_or_refuse(path), str)


@settings(PATIENT, max_examples=120)
@given(st.data())
def test_flipped_bytes(archive: Path, data: st.DataObject) -> None:
    """A changed byte is refused, or (in a date, a mode) changes nothing that is served."""
    good = bytearray(archive.read_bytes())
    directory = good.find(b"PK\x01\x02")  # small, but every byte of it counts
    places = st.integers(0, len(good) - 1) | st.integers(directory, len(good) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4, unique=True)):
        good[place] ^= data.draw(st.integers(1, 255))
    path = archive.with_name("flipped.mar")
    path.write_bytes(good)
    found = read_or_refuse(path)
    if isinstance(found, Archive) and not found.changed:
        digested = json.loads(members(archive)["digests.json"])
        assert {name: found.read(name) for name in digested} == {name: members(archive)[name] for name in digested}


@settings(PATIENT, max_examples=200)
@given(st.dictionaries(st.sampled_from([MANIFEST, "model-config.yaml", "metadata.json", "digests.json"]), any_content))
def test_any_content(archive: Path, replaced: Members) -> None:
    found = read_or_refuse(write(archive.with_name("any.mar"), members(archive) | replaced))
    if isinstance(found, Archive) and replaced:
        assert found.changed


@settings(PATIENT, max_examples=100)
@given(any_json, any_json, any_json)
def test_any_manifest(archive: Path, name: object, version: object, config_file: object) -> None:
    manifest = {"runtime": "python", "model": {"modelName": name, "modelVersion": version, "configFile": config_file}}
    contents = members(archive) | {MANIFEST: json.dumps(manifest).encode()}
    read_or_refuse(write(archive.with_name("manifest.mar"), contents))


@pytest.mark.parametrize(
    ("replaced", "complaint"),
    [
        ({MANIFEST: None}, "is not a TorchServe archive"),
        ({MANIFEST: b"{}"}, "is not a TorchServe archive: 'model'"),
        ({MANIFEST: b"[" * 100_000}, "is not a"),
        ({"model-config.yaml": b"handler: ["}, "is not a TorchServe archive"),
        ({"model-config.yaml": b"[1, 2]"}, "model-config.yaml is no section"),
        ({"model-config.yaml": b"1: 2"}, "model-config.yaml is no section"),
        ({"model-config.yaml": b"a: !!int ''"}, "is not a TorchServe archive"),
        ({"model-config.yaml": b"a: !!python/object/apply:os.system [true]"}, "is not a TorchServe archive"),
        ({"model-config.yaml": b"handler: fast"}, "handler is no section"),
        ({"model-config.yaml": b"handler: {example: photo.jpg}"}, "handler.example is no section"),
        ({"metadata.json": b"[]"}, "metadata.json is no section"),
        ({"metadata.json": None}, "is not a TorchServe archive"),
        ({"digests.json": b"[]"}, "is not a TorchServe archive"),
        ({"digests.json": b""}, "is not a TorchServe archive"),
    ],
)
def test_what_is_no_archive(changed: Callable[..., Path], replaced: Members, complaint: str) -> None:
    message = read_or_refuse(changed(replaced))
    assert isinstance(message, str)
    assert complaint in message


@pytest.mark.parametrize(
    ("name", "version"),
    [
        *((name, "1.0") for name in ("../x", "a/b", "", "-x", "a b", "é", "a\n", "x" * 129)),
        *(("x", version) for version in ("", "1/2", "../1", "1.0\n")),
    ],
)
def test_odd_names(changed: Callable[..., Path], name: str, version: str) -> None:
    manifest = {"model": {"modelName": name, "modelVersion": version}}
    message = read_or_refuse(changed({MANIFEST: json.dumps(manifest).encode()}))
    assert isinstance(message, str)
    assert "has odd characters" in message


@pytest.mark.parametrize(
    ("replaced", "names"),
    [
        ({"model.onnx": b"another"}, ("model.onnx",)),
        ({"model.onnx": None, "entry.py": b"import os"}, ("entry.py", "model.onnx")),
        ({"model-config.yaml": b"batchSize: 2"}, ("model-config.yaml",)),
        ({"torch.py": b"", "handlers/added.py": b""}, ("handlers/added.py", "torch.py")),
    ],
)
def test_changed_files_are_named(changed: Callable[..., Path], replaced: Members, names: tuple[str, ...]) -> None:
    path = changed(replaced)
    assert read_archive(path).changed == names
    with pytest.raises(MarserveError, match=f"is damaged: {', '.join(names)} differ"):
        find_archives(path.parent, [])


def test_no_zip_at_all(tmp_path: Path) -> None:
    for name, content in {"empty.mar": b"", "text.mar": b"hello", "tar.mar": bytes(10240)}.items():
        (tmp_path / name).write_bytes(content)
        message = read_or_refuse(tmp_path / name)
        assert isinstance(message, str)
        assert "is not a readable archive" in message
    assert "does not exist" in str(read_or_refuse(tmp_path / "nowhere.mar"))
    assert "cannot read" in str(read_or_refuse(tmp_path))


def test_an_encrypted_archive(archive: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + flags] |= 1
    (tmp_path / "secret.mar").write_bytes(content)
    assert "encrypted" in str(read_or_refuse(tmp_path / "secret.mar"))


def test_a_foreign_archive_is_read(changed: Callable[..., Path]) -> None:
    """Without our digests, metadata and `handler:` are somebody else's and mean nothing here."""
    path = changed(
        {"digests.json": None, "metadata.json": b"\xff", "model-config.yaml": b"handler: fast\nbatchSize: 2"}
    )
    found = read_archive(path)
    assert (found.handler, found.metadata, found.changed) == ({}, {}, ())
    assert found.config["batchSize"] == 2
    assert read_archive(changed({"digests.json": None, "model-config.yaml": b""})).config == {}


def test_a_foreign_archive_is_checked_by_its_checksums(changed: Callable[..., Path]) -> None:
    path = changed({"digests.json": None, "weights.bin": b"of some weights" * 10})
    path.write_bytes(path.read_bytes().replace(b"of some weights", b"of some weighty", 1))
    assert "is damaged: 'weights.bin' does not match its checksum" in str(read_or_refuse(path))


def test_a_model_store(archive: Path, tmp_path: Path) -> None:
    for name in ("b.mar", "a.mar", "c.txt"):
        shutil.copy(archive, tmp_path / name)
    (tmp_path / "a.mar").write_bytes(pack_red_or_blue(archive.parent, version="2.0").read_bytes())
    assert [found.path.name for found in find_archives(tmp_path, [])] == ["a.mar", "b.mar"]
    assert [found.path.name for found in find_archives(tmp_path, ["b", "a.mar", "b.mar"])] == ["b.mar", "a.mar"]
    with pytest.raises(MarserveError, match=r"^no c, d in .*; it has a, b$"):
        find_archives(tmp_path, ["a", "c", "d"])


def test_the_same_version_twice(archive: Path, tmp_path: Path) -> None:
    for name in ("a.mar", "b.mar"):
        shutil.copy(archive, tmp_path / name)
    with pytest.raises(MarserveError, match="same version of the same model"):
        find_archives(tmp_path, [])
    assert len(find_archives(tmp_path, ["b"])) == 1
    archives, (failure,) = sort_out(tmp_path, [])
    assert [found.path.name for found in archives] == ["a.mar"]
    assert failure.reason.startswith(f"{tmp_path / 'b.mar'} holds the same version of the same model as a.mar, red_or_")


def test_what_cannot_be_served_costs_only_itself(archive: Path, tmp_path: Path) -> None:
    shutil.copy(archive, tmp_path / "good.mar")
    (tmp_path / "cut.mar").write_bytes(archive.read_bytes()[:-100])
    shutil.copy(archive, tmp_path / "a b.mar")
    archives, failures = sort_out(tmp_path, [])
    assert [found.path.name for found in archives] == ["good.mar"]
    assert [(one.what, one.kind) for one in failures] == [("a b.mar", REFUSED), ("cut.mar", REFUSED)]
    assert "TorchServe takes only letters" in failures[0].reason
    assert failures[1].message == failures[1].reason
    assert "is not a readable archive" in failures[1].reason


@pytest.mark.parametrize("runtime", [None, "java", ["python"]])
def test_a_runtime_that_torchserve_does_not_know(changed: Callable[..., Path], runtime: object) -> None:
    """It would restore none of the models that come after such a one."""
    path = changed({"digests.json": None})
    manifest = json.loads(members(path)[MANIFEST])
    path = changed({"digests.json": None, MANIFEST: json.dumps(manifest | {"runtime": runtime}).encode()})
    assert "the manifest's runtime must be one of python, python3" in str(read_or_refuse(path))


def test_no_model_store(tmp_path: Path) -> None:
    for folder, complaint in ((tmp_path, "holds no .mar archive"), (ROOT / "README.nowhere", "is not a folder")):
        with pytest.raises(MarserveError, match=complaint):
            find_archives(folder, [])
