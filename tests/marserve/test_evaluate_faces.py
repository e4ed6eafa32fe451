"""`marserve evaluate` of the model that hides faces, on drawn boxes whose figures are known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import DataError
from marserve.evaluate_faces import Box, Labelled, _score, overlap, scan
from tests.images import encode, photo
from tests.marserve.conftest import evaluated_alone
from tests.marserve.test_cli import Capture, run
from tests.marserve.test_evaluate import BROKEN, fill
from tests.paths import FACE, ROOT

ARCHIVE = ROOT / "model_store" / "face_mosaic.mar"
boxes = st.builds(Box, *[st.integers(0, 50)] * 2, *[st.integers(1, 50)] * 2)


def xml(*images: str) -> bytes:
    return f"<?xml version='1.0'?><dataset><images>{''.join(images)}</images></dataset>".encode()


def listed(name: str, *drawn: tuple[int, int, int, int], more: str = "") -> str:
    inside = "".join(f"<box left='{x}' top='{y}' width='{w}' height='{h}'/>" for x, y, w, h in drawn)
    return f"<image file='{name}'>{inside}{more}</image>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A face that is found, one that is not there, a false alarm, a photograph without any, and a broken one."""
    files = {f"{name}.jpg": FACE.read_bytes() for name in ("right", "twice", "alarm", "ignored")}
    files |= {"none.png": encode(photo(90, 120), "PNG"), "broken.jpg": BROKEN}
    face = (70, 76, 180, 180)
    ignored = "<box left='70' top='76' width='180' height='180' ignore='1'/>"
    files["boxes.xml"] = xml(
        listed("right.jpg", face),
        listed("twice.jpg", face, (0, 300, 40, 40)),
        listed("alarm.jpg"),
        listed("ignored.jpg", more=ignored),
        listed("none.png", (5, 5, 20, 20)),
        listed("broken.jpg", face),
    )
    return fill(tmp_path / "data", files)


def test_the_object_for_programs(folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(encode(photo(40, 40), "JPEG"))
    found, heavy = evaluated_alone(ARCHIVE, folder)
    assert heavy == []
    assert list(found) == [
        *["model", "version", "images", "unreadable", "overlap", "faces", "found", "false_alarms"],
        *["images_with_false_alarms", "recall", "precision", "by_image"],
    ]
    assert (found["images"], found["faces"], found["found"], found["false_alarms"]) == (6, 5, 2, 1)
    assert (found["recall"], found["precision"]) == (pytest.approx(2 / 5), pytest.approx(2 / 3))
    assert found["by_image"]["twice.jpg"] == {"faces": 2, "found": 1, "false_alarms": 0}
    assert found["by_image"]["ignored.jpg"] == {"faces": 0, "found": 0, "false_alarms": 0}


def test_the_report(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "evaluate", ARCHIVE, "--data_dir", folder) == 0
    captured = capsys.readouterr()
    assert "broken.jpg: the image/jpeg data is damaged" in captured.err
    lines = captured.out.splitlines()
    assert lines[0].endswith(": 5 images, 1 unreadable")
    assert lines[1] == "recall 0.5000  precision 0.6667  2 of 4 faces found, 1 false alarms in 1 images"
    assert [line.split()[0] for line in lines[6:9]] == ["none.png", "twice.jpg", "alarm.jpg"]


def test_photographs_without_faces_have_no_recall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    folder = fill(tmp_path, {"a/1.jpg": FACE.read_bytes(), "boxes.xml": xml(listed("a/1.jpg"))})
    assert run(monkeypatch, "evaluate", ARCHIVE, "--data_dir", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recall"], found["precision"], found["false_alarms"]) == (None, None, 1)
    assert run(monkeypatch, "evaluate", ARCHIVE, "--data_dir", folder) == 0
    assert "\n0 of 0 faces found, 1 false alarms in 1 images\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.jpg": b""}, r"has no \*\.xml with the boxes"),
        ({"a.xml": b"<dataset>"}, "a.xml is no file of boxes: no element found"),
        ({"a.xml": b"<dataset/>"}, "names no image"),
        ({"a.xml": xml("<image/>")}, "an image named ''"),
        ({"a.xml": xml(listed("../1.jpg"))}, r"an image named '\.\./1\.jpg', which is not below the file"),
        ({"a.xml": xml("<image file='1.jpg'><box left='1'/></image>")}, "a.xml is no file of boxes: 'top'"),
        ({"a.xml": xml(listed("1.jpg", (1, 1, 0, 5)))}, "without width or height"),
        ({"a.xml": xml(listed("1.jpg")), "b.xml": xml(listed("1.jpg"))}, "b.xml: 1.jpg is named twice"),
        ({"a.xml": xml(listed("missing.jpg"))}, "none of the 1 images .* can be read; .*No such file"),
    ],
)
def test_a_folder_that_cannot_be_scored(
    files: dict[str, bytes], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    folder = fill(tmp_path / "data", files)
    assert run(monkeypatch, "evaluate", ARCHIVE, "--data_dir", folder) == 2
    assert re.search(message, capsys.readouterr().err)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        scan(tmp_path / "missing")


@given(boxes, boxes)
def test_overlap(one: Box, other: Box) -> None:
    assert overlap(one, one) == 1
    assert 0 <= overlap(one, other) == overlap(other, one) <= 1
    cells = [
        {(x, y) for x in range(int(b.left), int(b.left + b.width)) for y in range(int(b.top), int(b.top + b.height))}
        for b in (one, other)
    ]
    assert overlap(one, other) == pytest.approx(len(cells[0] & cells[1]) / len(cells[0] | cells[1]))


@given(st.lists(boxes, max_size=5), st.lists(boxes, max_size=5), st.lists(boxes, max_size=2))
def test_every_box_counts_once(faces: list[Box], found: list[Box], ignored: list[Box]) -> None:
    scores = _score(Labelled(Path("1.jpg"), tuple(faces), tuple(ignored)), found)
    assert 0 <= scores.found <= min(len(faces), len(found))
    assert scores.false_alarms <= len(found) - scores.found
    if not ignored:
        assert scores.found + scores.false_alarms == len(found)
    perfect = _score(Labelled(Path("1.jpg"), tuple(found)), found)
    assert (perfect.found, perfect.false_alarms) == (len(found), 0)
