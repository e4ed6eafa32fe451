"""`marserve index` and `marserve similar` on generated pictures: vectors are the directions of their mean colours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from marserve.errors import MarserveError
from marserve.image_index import IMAGES, VECTORS, read
from tests.export.models import pack_embedding
from tests.marserve.conftest import PATIENT
from tests.marserve.test_cli import Capture, run
from tests.marserve.test_evaluate import BROKEN, fill
from tests.marserve.test_evaluate_retrieval import colour
from tests.paths import ROOT

# Green from none to much, in folders of any depth.
FILES = {"none.png": colour(200, 0, 0), "a/little.png": colour(200, 60, 0), "a/b/some.png": colour(200, 120, 0)}
FILES |= {"a/b/c/much.PNG": colour(200, 240, 0), "copy.png": colour(200, 60, 0)}
NO_IMAGES = {"broken.jpg": BROKEN, "notes.txt": b"", ".hidden.png": BROKEN, "a/.old/1.png": BROKEN}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_embedding(tmp_path_factory.mktemp("colour"))


@pytest.fixture
def here(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    """The working directory, with a folder `photos` and its index."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "photos", FILES | NO_IMAGES)
    fill(tmp_path, {"query.png": colour(200, 62, 0)})
    assert run(monkeypatch, "index", "photos", "--archive", archive) == 0
    captured = capsys.readouterr()
    assert captured.out == "images.index: 5 images, 1 unreadable\n"
    assert captured.err == "unreadable: photos/broken.jpg: the image/jpeg data is damaged or cut short\n"
    return tmp_path


class Asked:
    """Runs `marserve similar` in the working directory: exit code, stdout, stderr."""

    def __init__(self, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
        self._archive, self._patch, self._capsys = archive, monkeypatch, capsys

    def __call__(self, *arguments: object, archive: Path | None = None) -> tuple[int, str, str]:
        code = run(self._patch, "similar", *arguments, "--archive", archive or self._archive)
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def refused(self, *arguments: object, archive: Path | None = None) -> str:
        code, out, err = self(*arguments, archive=archive)
        assert (code != 0, out, len(err.splitlines())) == (True, "", 1)
        return err


@pytest.fixture
def similar(here: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Asked:
    return Asked(archive, monkeypatch, capsys)


def test_the_nearest_come_first(here: Path, similar: Asked) -> None:
    code, out, err = similar("query.png", "--k", 4)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    order = ["little.png", "copy.png", "some.png", "none.png"]
    assert sorted(Path(line.split()[1]).name for line in lines[:2]) == sorted(order[:2])
    assert [Path(line.split()[1]).name for line in lines[2:4]] == order[2:]
    cosine = np.dot([200, 62], [200, 120]) / np.hypot(200, 62) / np.hypot(200, 120)
    assert lines[2] == f"{cosine:.4f}  {here.resolve()}/photos/a/b/some.png"
    assert lines[4] == "drawn in similar.png"
    with Image.open("similar.png") as sheet:
        assert sheet.size == (5 * 172 + 12, 218)


def test_the_same_file_is_told_from_what_only_looks_so(here: Path, similar: Asked) -> None:
    """A file of the same pixels has similarity 1 too."""
    (here / "again.bmp.png").write_bytes(FILES["a/little.png"] + b"trailing")
    code, out, _ = similar(here / "photos/a/little.png", "--json", "-k", 2)
    found = json.loads(out)
    assert code == 0
    assert [(n["similarity"], n["state"]) for n in found["neighbours"]] == [(1, "identical"), (1, "identical")]
    assert (found["model"], found["version"], found["images"], found["sheet"]) == ("colour", "1.0", 5, None)
    assert not (here / "similar.png").exists()
    _, out, _ = similar("again.bmp.png", "--json", "-k", 2, "--sheet", "sheet.jpg")
    found = json.loads(out)
    assert [(n["similarity"], n["state"]) for n in found["neighbours"]] == [(1, "as indexed"), (1, "as indexed")]
    assert found["sheet"] == "sheet.jpg"
    assert (here / "sheet.jpg").read_bytes().startswith(b"\xff\xd8")


def test_more_than_there_are(similar: Asked) -> None:
    code, out, err = similar("query.png", "--k", 1000)
    assert (code, len(out.splitlines()), err) == (0, 6, "the index has 5 images only\n")


def test_files_that_have_gone_or_changed_since(here: Path, similar: Asked) -> None:
    (here / "photos/none.png").unlink()
    (here / "photos/copy.png").write_bytes(b"something else")
    _, out, err = similar("query.png")
    notes = {Path(line.split()[1]).name: line.split("  ")[2:] for line in out.splitlines()[:5]}
    assert (notes["none.png"], notes["copy.png"], notes["some.png"]) == (["(missing)"], ["(changed)"], [])
    assert err == "the index has 5 images only\n"
    assert (here / "similar.png").exists()


def test_an_index_of_another_network(similar: Asked, tmp_path: Path) -> None:
    err = similar.refused("query.png", archive=pack_embedding(tmp_path / "other", weight=2))
    assert "images.index was made with the network of colour 1.0 (" in err
    assert "index the folder again, or name the other archive with --archive" in err


def test_what_cannot_be_looked_for(here: Path, similar: Asked, archive: Path) -> None:
    assert "notes.txt cannot be read: the image is empty" in similar.refused("photos/notes.txt")
    assert "broken.jpg cannot be read: the image/jpeg data is damaged" in similar.refused("photos/broken.jpg")
    assert "nowhere is no index: make one with `marserve index FOLDER`" in similar.refused(
        "query.png", "--index", "nowhere"
    )
    assert "photos is no index" in similar.refused("query.png", "--index", "photos")
    assert "no/such/sheet.png: No such file" in similar.refused("query.png", "--sheet", "no/such/sheet.png")
    assert "sheet.pix: name it .png, .jpg or .webp" in similar.refused("query.png", "--sheet", "sheet.pix")
    assert "no.mar does not exist" in similar.refused("query.png", archive=here / "no.mar")
    pool, image = (ROOT / f"model_store/{name}.mar" for name in ("captcha_challenge", "captcha_image"))
    assert "has no network whose vectors could be compared" in similar.refused("query.png", archive=pool)
    assert "was made with the network of colour 1.0" in similar.refused("query.png", archive=image)


def test_what_cannot_be_indexed(here: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def refused(*arguments: object, code: int = 1) -> str:
        assert run(monkeypatch, "index", *arguments) == code
        captured = capsys.readouterr()
        assert (captured.out, len(captured.err.splitlines())) == ("", 1)
        return captured.err

    mine = ("--archive", archive)
    fill(here, {"empty/notes.txt": b"", "bad/1.png": b"?", "file": b""})
    assert "cannot read nowhere: No such file or directory" in refused("nowhere", "--output=x", *mine, code=2)
    assert "cannot read file: Not a directory" in refused("file", "--output=x", *mine, code=2)
    assert "empty has no images, in folders of any depth" in refused("empty", "--output=x", *mine, code=2)
    assert "bad/1.png cannot be read: expected a JPEG" in refused("bad", "--output=x", *mine, code=2)
    assert f"is the index of {here.resolve()}/photos: remove it or choose another" in refused("empty", *mine)
    assert "file exists already and is no index" in refused("photos", "--output=file", *mine)
    assert "photos exists already and is no index" in refused("photos", "--output=photos", *mine)
    assert f"cannot write no/x: {here}/no is no folder that you may write to" in refused(
        "photos", "--output=no/x", *mine
    )
    image = ROOT / "model_store/captcha_image.mar"
    assert "is for image_classification; what is wanted here is image_embedding" in refused(
        "photos", "--archive", image
    )
    assert sorted(path.name for path in here.iterdir() if path.is_dir() and path.name != "runtime") == [
        "bad",
        "empty",
        "images.index",
        "photos",
    ]


def test_an_index_is_replaced_by_one_of_the_same_folder(
    here: Path, archive: Path, similar: Asked, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (here / "photos/none.png").unlink()
    assert run(monkeypatch, "index", here / "photos", "--archive", archive) == 0
    assert capsys.readouterr().out == "images.index: 4 images, 1 unreadable\n"
    _, out, _ = similar("query.png")
    assert "none.png" not in out
    assert sorted(path.name for path in here.iterdir()) == ["images.index", "photos", "query.png", "similar.png"]


def test_a_file_name_may_hold_any_bytes(
    here: Path, archive: Path, similar: Asked, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    odd = os.fsencode(here / "photos") + b"/\xff\n\x1b[2J.png"
    Path(os.fsdecode(odd)).write_bytes(FILES["none.png"])
    assert run(monkeypatch, "index", "photos", "--archive", archive) == 0
    capsys.readouterr()
    code, out, _ = similar("photos/none.png", "-k", 2)
    assert code == 0
    assert "/photos/\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}[2J.png  (identical)" in out
    _, out, _ = similar("photos/none.png", "-k", 2, "--json")
    assert os.fsdecode(odd) in [n["file"] for n in json.loads(out)["neighbours"]]


def test_without_faiss(
    here: Path, archive: Path, similar: Asked, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """As in the environment that serves."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert f"{sys.executable} -m pip install faiss-cpu" in similar.refused("query.png")
    assert run(monkeypatch, "index", "photos", "--archive", archive) == 1
    assert "this takes FAISS, which is not installed" in capsys.readouterr().err


def test_serving_does_not_take_faiss() -> None:
    for lock in ("serve.txt", "serve-gpu.txt"):
        assert "faiss" not in (ROOT / "requirements" / lock).read_text()
    code = "import sys, marserve.cli, marserve.evaluate_retrieval; print('faiss' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (VECTORS, b"", "vectors.faiss is missing or damaged"),
        (VECTORS, None, "vectors.faiss is missing or damaged"),
        (IMAGES, b"{", "images.json is damaged"),
        (IMAGES, b"\xff", "images.json is damaged"),
    ],
)
def test_a_damaged_index(here: Path, file: str, content: bytes | None, message: str, similar: Asked) -> None:
    if content is None:
        (here / "images.index" / file).unlink()
    else:
        (here / "images.index" / file).write_bytes(content)
    assert message in similar.refused("query.png")


def test_images_and_vectors_that_do_not_belong_together(here: Path, similar: Asked) -> None:
    place = here / "images.index" / IMAGES
    text = json.loads(place.read_bytes())
    place.write_text(json.dumps(text | {"images": text["images"][1:]}))
    assert "images.index is damaged: 4 images and 5 vectors" in similar.refused("query.png")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=4
)
image_entries = st.lists(st.fixed_dictionaries({"file": st.text() | values, "bytes": st.integers() | values}) | values)


@PATIENT
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "model": st.fixed_dictionaries({"name": values, "version": values, "network_sha256": values}) | values,
            "folder": st.text() | values,
            "images": image_entries | values,
        },
    )
)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("index")
    (folder / IMAGES).write_text(json.dumps(text))
    with pytest.raises(MarserveError, match=r"damaged|missing"):  # there are no vectors
        read(folder)
