"""The same files are the same archive, wherever, whenever and beside whomever it is packed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from export.errors import ExportError
from export.pack import pack
from handlers.archive import DIGESTS
from tests.export.models import ROOT, load, pack_red_or_blue, run_entry, unpack

CONFIG = "handler: {task: random_images, pool: pool}\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_red_or_blue(tmp_path_factory.mktemp("packed"))


def write_files(folder: Path, names: list[str]) -> Path:
    """Two files and a folder, written in this order; the content is the name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def pack_files(source: Path, target: Path) -> Path:
    files = {"pool": source / "pool", "model.onnx": source / "model.onnx"}
    pack(target, "some", "1.0", CONFIG, {"b": 1, "a": "ü"}, "# Card\n", files)
    return target


def test_same_files_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["model.onnx", "pool/a.png", "pool/b/c.png", "pool/é.png"]
    first = pack_files(write_files(tmp_path / "one", names), tmp_path / "first.mar")
    other = write_files(tmp_path / "elsewhere" / "two", names[::-1])
    for path in (other / "model.onnx", other / "pool" / "a.png"):
        os.utime(path, (10**9, 10**9))
        path.chmod(0o700)
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("TZ", "Asia/Seoul")
    second = pack_files(other, Path("new", "folder", "second.mar"))
    assert second.read_bytes() == first.read_bytes()


def test_every_member_has_the_same_date_and_mode_in_sorted_order(archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o644}
    assert [entry.filename for entry in entries] == sorted((entry.filename for entry in entries), key=Path)


def test_digests_cover_every_file(archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    digests = json.loads(contents.pop(DIGESTS))
    assert digests == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def test_layout_is_what_torchserve_loads(archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        names = set(file.namelist())
        manifest = json.loads(file.read("MAR-INF/MANIFEST.json"))
        metadata = json.loads(file.read("metadata.json"))
        packed_handlers = {name: file.read(name) for name in names if name.startswith("handlers/")}
    model = manifest["model"]
    assert (model["modelName"], model["modelVersion"]) == ("red_or_blue", "1.0")
    assert (model["handler"], model["configFile"]) == ("entry.py", "model-config.yaml")
    assert manifest["createdOn"] == "01/01/1980 00:00:00"
    assert {"entry.py", "model-config.yaml", "model.onnx", "model_card.md", "example.png"} <= names
    assert metadata["name"] == "red_or_blue"
    sources = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for path in (ROOT / "handlers").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "entry.py"
    }
    assert packed_handlers == sources
    assert not any("__pycache__" in name for name in names)


def test_it_answers_from_its_own_files_without_torch(archive: Path, tmp_path: Path) -> None:
    folder = unpack(archive, tmp_path / "unpacked")
    answer = run_entry(folder, folder / "example.png")
    assert answer["reply"]["label"] == "animal"
    assert answer["statuses"] == {}
    assert Path(answer["handlers"]).is_relative_to(folder)
    assert answer["torch"] is False


def test_parallel_packs_do_not_collide(tmp_path: Path) -> None:
    """Two to the same place and one of the same name elsewhere: TorchServe's archiver shares a folder by name."""
    source = write_files(tmp_path / "source", ["model.onnx", "pool/a.png"])
    targets = [tmp_path / "out" / "some.mar", tmp_path / "out" / "some.mar", tmp_path / "other" / "some.mar"]
    with ThreadPoolExecutor(len(targets)) as threads:
        done = list(threads.map(pack_files, [source] * len(targets), targets))
    assert len({path.read_bytes() for path in done}) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["some.mar"]


def test_a_failure_leaves_what_was_there(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "some.mar"
    shutil.copy(archive, target)
    source = write_files(tmp_path / "source", ["model.onnx", "pool/a.png"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space"):
        pack_files(source, target)
    assert target.read_bytes() == archive.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.mar", "source"]


def test_the_archivers_refusal_is_an_export_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="torch-model-archiver failed"):
        pack(tmp_path / "x.mar", "odd name!", "1.0", CONFIG, {}, "", {})
    assert list(tmp_path.iterdir()) == []


def test_damage_is_found_when_loading(archive: Path, tmp_path: Path) -> None:
    folder = unpack(archive, tmp_path / "unpacked")
    load(folder)
    (folder / "model.onnx").write_bytes(b"\0" + (folder / "model.onnx").read_bytes())
    with pytest.raises(Exception, match=r"model\.onnx is not the file that was packed"):
        load(folder)
