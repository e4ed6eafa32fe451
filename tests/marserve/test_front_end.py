"""The changed class: the same but for two places, and only of the release that is known."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

from marserve.front_end import CLASS, EDITS, JAR, patch


def frontend() -> Path:
    spec = importlib.util.find_spec("ts")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "frontend"


def original() -> bytes:
    with zipfile.ZipFile(frontend() / JAR) as jar:
        return jar.read(CLASS)


def test_every_edit_is_made_once_and_nothing_else(tmp_path: Path) -> None:
    before = original()
    (place,) = patch(frontend(), tmp_path / "classes")
    after = (place / CLASS).read_bytes()
    assert len(after) == len(before)
    differing = sum(one != other for one, other in zip(before, after, strict=True))
    edits = [(bytes.fromhex(old), bytes.fromhex(new)) for old, new in EDITS.items()]
    for old, new in edits:
        assert (len(old), before.count(old), after.count(old)) == (len(new), 1, 0)
    assert differing == sum(one != other for old, new in edits for one, other in zip(old, new, strict=True))


def test_a_class_of_another_release_stays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / JAR, "w") as jar:
        jar.writestr(CLASS, original() + b"\0")
    assert patch(tmp_path, tmp_path / "classes") == []
    assert not (tmp_path / "classes").exists()
