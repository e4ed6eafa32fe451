"""What a new version changes for clients, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marserve.archive import Archive, read_archive
from marserve.errors import MarserveError
from marserve.trust.interface import differences
from tests.e2e.archives import read_files, with_handler, write_archive

ANSWER = {"label": "animal", "confidence": 0.9, "probabilities": {"animal": 0.9, "object": 0.1}}


@pytest.fixture
def version(archive: Path, tmp_path: Path) -> Any:
    """Makes archives: red_or_blue with another `handler:` section, and the answer that its self-test has."""
    made = iter(range(99))

    def make(answer: Any = None, **changes: object) -> Archive:
        files = with_handler(read_files(archive), **changes)
        if answer is not None:
            kind = "form" if "form" in answer else "answer"
            case = {"file": "example.png", kind: answer.get("form", answer)}
            files["selftest.json"] = json.dumps({"tolerance": 0, "cases": [case]}).encode()
        path = tmp_path / f"{next(made)}.mar"
        write_archive(path, files)
        return read_archive(path)

    return make


def test_a_new_training_changes_nothing(version: Any) -> None:
    answer = ANSWER | {"label": "object", "confidence": 1}
    assert differences(version(ANSWER), version(answer, threshold=0.7, labels=["object", "animal"])) == []
    assert differences(version(), version(ANSWER)) == []
    assert differences(version(ANSWER), version()) == []


def test_labels(version: Any) -> None:
    old, new = version(ANSWER), version({**ANSWER, "probabilities": {"cat": 1.0}}, labels=["animal", "plant", "cat"])
    assert differences(old, new) == ["it never answers object", "it may answer plant, cat, which is new"]


def test_replies(version: Any) -> None:
    new = {"label": 3, "probabilities": {"animal": 0.9}, "score": 1.0, "images": [{"id": "a"}]}
    assert differences(version(ANSWER), version(new)) == [
        "its reply has no 'confidence'",
        "its reply has 'images[].id', which is new",
        "'label' of its reply is a number, not a text",
        "its reply has 'score', which is new",
    ]
    form = {"form": {"label": "text", "confidence": "number", "probabilities": {"*": "number"}}}
    assert differences(version(ANSWER), version(form)) == []


def test_requests_and_tasks(version: Any, foreign: Path) -> None:
    old = version(features=["duration", "pauses"])
    assert differences(old, version(features=["duration", "pauses"])) == []
    assert differences(old, version(features=["pauses", "duration"])) == [
        "its features, which clients may send themselves, are others or in another order"
    ]
    assert differences(old, version(example={"json": {}})) == ["it takes JSON, not files"]
    assert differences(version(example={"file": "example.json"}), version(example={"json": {}})) == []
    assert differences(old, version(task="divination")) == ["it is for divination, not for image_classification"]
    assert differences(read_archive(foreign), read_archive(foreign)) == []
    assert "it is for nothing that it says, not for image_classification" in differences(old, read_archive(foreign))
    assert "it never answers animal, object" in differences(old, read_archive(foreign))


def test_a_damaged_selftest_is_told(version: Any) -> None:
    wrongs: list[Any] = [{"cases": 1}, []]
    for wrong in wrongs:
        damaged = version(ANSWER)
        files = read_files(damaged.path) | {"selftest.json": json.dumps(wrong).encode()}
        write_archive(damaged.path, files)
        with pytest.raises(MarserveError, match=r"selftest\.json is damaged"):
            differences(version(ANSWER), read_archive(damaged.path))
