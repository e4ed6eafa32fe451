"""The changed classes: the same but for some places, and only of the release that is known."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import pytest

from marserve.front_end import CLASSES, JAR, patch


def frontend() -> Path:
    spec = importlib.util.find_spec("ts")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "frontend"


def original(name: str) -> bytes:
    with zipfile.ZipFile(frontend() / JAR) as jar:
        return jar.read(name)


@pytest.mark.parametrize("name", CLASSES)
def test_every_edit_is_made_once_and_nothing_else(tmp_path: Path, name: str) -> None:
    (place,) = patch(frontend(), tmp_path / "classes")
    expected = original(name)
    for old, new in CLASSES[name][1].items():
        head, found, tail = expected.partition(bytes.fromhex(old))
        assert found
        assert bytes.fromhex(old) not in tail
        expected = head + bytes.fromhex(new) + tail
    assert (place / name).read_bytes() == expected


@pytest.mark.parametrize("name", ["org/pytorch/serve/wlm/Model.class", "org/pytorch/serve/wlm/WorkerThread.class"])
def test_what_stays_in_its_place_stays_as_long(name: str) -> None:
    for old, new in CLASSES[name][1].items():
        if bytes.fromhex(old).startswith(b"\1\0"):  # a constant: nothing points behind it
            continue
        assert len(bytes.fromhex(old)) == len(bytes.fromhex(new))


@pytest.mark.parametrize("other", CLASSES)
def test_one_class_of_another_release_and_all_stay(tmp_path: Path, other: str) -> None:
    with zipfile.ZipFile(tmp_path / JAR, "w") as jar:
        for name in CLASSES:
            jar.writestr(name, original(name) + (b"\0" if name == other else b""))
    assert patch(tmp_path, tmp_path / "classes") == []
    assert not (tmp_path / "classes").exists()
