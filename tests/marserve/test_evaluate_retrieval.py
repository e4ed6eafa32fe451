"""`marserve evaluate` of an embedding, on folders whose figures are known: vectors are the directions of colours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.evaluate_retrieval import neighbours
from tests.export.models import flat, pack_embedding
from tests.images import encode
from tests.marserve.conftest import PATIENT, evaluated_alone
from tests.marserve.test_cli import Capture, run
from tests.marserve.test_evaluate import BROKEN, fill


def colour(red: int, green: int, blue: int) -> bytes:
    return encode(flat(red, green, blue), "PNG")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_embedding(tmp_path_factory.mktemp("colour"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven reds and seven blues near to each other, and a red one among the blues."""
    red = {f"animal/fox/{n}.png": colour(200, 10 + n, 0) for n in range(7)}
    blue = {f"object/jar/{n}.png": colour(0, 10 + n, 200) for n in range(7)}
    return fill(tmp_path / "data", red | blue | {"animal/hen/1.png": colour(0, 13, 201), "animal/hen/2.jpg": BROKEN})


def test_the_object_for_programs(archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "evaluate", archive, "--data_dir", folder, "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert "hen/2.jpg: the image/jpeg data is damaged" in captured.err
    assert list(found) == [
        *["model", "version", "images", "unreadable", "classes", "precision_at_1", "precision_at_5", "chance"],
        *["groups", "by_class"],
    ]
    assert (found["model"], found["images"], found["unreadable"], found["classes"]) == ("colour", 15, 1, 3)
    fox, hen, jar = (found["by_class"][name] for name in ("animal/fox", "animal/hen", "object/jar"))
    assert fox == pytest.approx({"images": 7, "precision_at_1": 1, "precision_at_5": 1, "chance": 6 / 14})
    assert hen == {"images": 1, "precision_at_1": 0, "precision_at_5": 0, "chance": 0}
    assert (jar["images"], jar["chance"]) == (7, pytest.approx(6 / 14))
    assert 0.5 < jar["precision_at_5"] < 1  # the hen is among the nearest of most
    for what in ("precision_at_1", "precision_at_5", "chance"):
        mean = sum(row["images"] * row[what] for row in (fox, hen, jar)) / 15
        assert found[what] == pytest.approx(mean)
    assert found["groups"]["chance"] == pytest.approx((8 * 7 + 7 * 6) / (15 * 14))
    assert found["groups"]["precision_at_5"] == pytest.approx((7 * 5 + 7 * 5 * jar["precision_at_5"]) / (15 * 5))


def test_the_report(archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run(monkeypatch, "evaluate", archive, "--data_dir", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "colour  version 1.0: 15 images of 3 classes, 1 unreadable"
    assert lines[1].startswith("same class: precision@1 0.")
    assert lines[2].startswith("same group: precision@1 0.")
    rows = [line.split()[0] for line in lines[6:9]]
    assert rows == ["animal/hen", "object/jar", "animal/fox"]


def test_classes_without_groups(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    files = {f"red/{n}.png": colour(200, n, 0) for n in range(24)}
    files |= {f"shade_{n}/1.png": colour(0, 9 * n, 200) for n in range(24)}
    folder = fill(tmp_path / "data", files)
    assert run(monkeypatch, "evaluate", archive, "--data_dir", folder) == 0
    out = capsys.readouterr().out
    assert "same group" not in out
    assert out.endswith("15 more classes, precision@5 0.0000 or better\n")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/1.png": b"?"}, "1.png cannot be read: expected a JPEG"),
        ({"a/1.png": b"?", "b/1.png": b"?"}, "expected a JPEG, PNG or WebP image, nor any of 1 more"),
        ({"a/1.png": colour(1, 2, 3), "b/1.png": colour(3, 2, 1)}, "2 images that can be read; for precision@5 it"),
        ({f"a/{n}.png": colour(1, 2, 3) for n in range(6)}, "has images of one class only, a"),
        ({"1.png": colour(1, 2, 3)}, "has no images in <group>"),
    ],
)
def test_a_folder_that_cannot_be_scored(
    files: dict[str, bytes],
    message: str,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    assert run(monkeypatch, "evaluate", archive, "--data_dir", fill(tmp_path / "data", files)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


@PATIENT
@given(st.integers(7, 600), st.integers(0, 2**32 - 1))
def test_neighbours_are_those_of_the_whole_matrix(count: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    found = np.take_along_axis(similarity, neighbours(vectors, 5), axis=1)
    np.testing.assert_allclose(found, -np.sort(-similarity, axis=1)[:, :5], rtol=1e-4, atol=1e-4)


def test_nothing_heavy_is_loaded(archive: Path, folder: Path) -> None:
    (folder / "animal/hen/2.jpg").unlink()
    found, heavy = evaluated_alone(archive, folder)
    assert found["images"] == 15
    assert not heavy
