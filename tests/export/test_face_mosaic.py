"""The model that hides faces: made of OpenCV's cascade alone, with its licence, and held to the face of its example."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import Notes, Sources, export
from export.cascade import cascade_record, opencv_cascade
from export.errors import ExportError
from handlers.archive import check_digests
from handlers.errors import SpecError
from handlers.pipeline import Pipeline
from handlers.selftest import replay
from handlers.spec import HandlerSpec
from marserve.archive import read_archive
from marserve.evaluate_faces import evaluate
from tests.export.models import load, unpack
from tests.paths import CASCADE, ROOT, SHARED_DATA

RELEASED = ROOT / "model_store" / "face_mosaic.mar"
FACES = SHARED_DATA / "faces.tar.gz"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export("face_mosaic", Sources(), tmp_path_factory.mktemp("store"), Notes())


def test_the_archive_has_the_cascade_and_its_licence(exported: Path, tmp_path: Path) -> None:
    folder = unpack(exported, tmp_path / "model")
    check_digests(folder)
    assert (folder / CASCADE.name).read_bytes() == CASCADE.read_bytes()
    record = json.loads((folder / "metadata.json").read_bytes())["cascade"]
    assert record["copyright"] == "Copyright (C) 2000, Intel Corporation"
    assert record["licence"].startswith("Intel License Agreement")
    card = exported.with_suffix(".md").read_text()
    assert record["sha256"] in card
    assert "Intel License Agreement" in card
    assert "Not measured yet" in card


def test_the_self_test_is_of_boxes(exported: Path, tmp_path: Path) -> None:
    """And a cascade that finds none does not pass it."""
    folder = unpack(exported, tmp_path / "model")
    (case,) = json.loads((folder / "selftest.json").read_bytes())["cases"]
    assert list(case["answer"]) == ["faces"]
    assert replay(folder, load(folder)) == 1
    other = CASCADE.with_name("haarcascade_smile.xml")
    (folder / CASCADE.name).write_bytes(other.read_bytes())
    with pytest.raises(SpecError, match="the self-test fails"):
        replay(folder, Pipeline.load(folder, HandlerSpec("face_mosaic", cascade=CASCADE.name)))


def test_packed_again_it_keeps_its_cascade(exported: Path, tmp_path: Path) -> None:
    again = export("face_mosaic", Sources(archive=exported), tmp_path, Notes())
    assert again.read_bytes() == exported.read_bytes()
    with pytest.raises(ExportError, match="is of another kind of model"):
        export("face_mosaic", Sources(archive=ROOT / "model_store" / "captcha_challenge.mar"), tmp_path, Notes())


def test_other_files_are_not_taken(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has no none\.xml"):
        opencv_cascade("none.xml")
    (tmp_path / "c.xml").write_text("<opencv_storage/>")
    with pytest.raises(ExportError, match="does not begin with the licence"):
        cascade_record(tmp_path / "c.xml")


@pytest.mark.skipif(not FACES.exists(), reason="the faces are not here")
def test_served_recall_is_the_one_on_the_card(tmp_path: Path) -> None:
    recorded: dict[str, Any] = dict(read_archive(RELEASED).metadata["evaluation"]["faces"])
    with tarfile.open(FACES) as archive:
        archive.extractall(tmp_path, filter="data")
    (boxes,) = tmp_path.rglob("training.xml")
    found, problems = evaluate(read_archive(RELEASED), boxes.parent)
    assert not problems
    assert {name: getattr(found, name) for name in recorded} == recorded
    assert found.found >= 15
