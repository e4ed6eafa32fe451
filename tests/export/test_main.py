"""`python -m export` from a checkpoint to an archive that answers; a gate or an input that fails leaves nothing."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from export.__main__ import _source_commit, main
from tests.export.conftest import Exports
from tests.export.models import MEMBERS, ROOT, load, meta, run_entry, unpack, write_pool


def answer(folder: Path, body: bytes | dict[str, Any]) -> dict[str, Any]:
    (reply,) = load(folder)([{"body": body}])
    assert reply.status == 200
    parsed: dict[str, Any] = json.loads(reply.body)
    return parsed


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run an export that must fail: its one line on stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_the_archive_answers_its_own_example(exported: Path, tmp_path: Path) -> None:
    folder = unpack(exported, tmp_path / "unpacked")
    example = folder / "example.jpg"
    reply = answer(folder, example.read_bytes())
    assert reply["label"] in MEMBERS
    assert sorted(reply["probabilities"]) == sorted(MEMBERS)
    assert sum(reply["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    served = run_entry(folder, example)
    assert served["reply"] == reply
    assert served["torch"] is False


def test_metadata_is_the_trainings_own(exported: Path) -> None:
    with zipfile.ZipFile(exported) as file:
        metadata = json.loads(file.read("metadata.json"))
        card = file.read("model_card.md").decode()
    trained = meta()
    for key in ("architecture", "classes", "members", "metrics", "recipe", "trained_at", "preprocessing"):
        assert metadata[key] == trained[key]
    assert "history" not in metadata
    assert metadata["version"] == "20260102.0304"
    assert metadata["parity"]["inputs"] == 70
    assert metadata["parity"]["max_difference"] <= metadata["parity"]["tolerance"]
    assert metadata["exported_with"]["torch"] == torch.__version__.split("+")[0]
    assert metadata["data"]["note"] == "Random $pixels."
    assert exported.with_suffix(".md").read_text() == card
    assert "captcha_image 20260102.0304" in card
    assert "Random $pixels." in card
    assert re.sub(r"\$pixels", "", card).count("$") == 0


def test_the_network_inside_knows_no_machine(exported: Path) -> None:
    with zipfile.ZipFile(exported) as file:
        content = file.read("model.onnx")
    for trace in (b".py", str(ROOT).encode(), b"/tmp/"):
        assert trace not in content


def test_another_process_elsewhere_makes_the_same_bytes(exports: Exports) -> None:
    out, err = exports.process.communicate()
    assert (exports.process.returncode, err) == (0, "")
    assert "out/captcha_image.mar: " in out
    for suffix in (".mar", ".md"):
        made = (exports.folder / "captcha_image").with_suffix(suffix)
        assert made.read_bytes() == exports.archive.with_suffix(suffix).read_bytes()
    assert len(list(exports.folder.iterdir())) == 2


def test_a_failing_gate_leaves_everything_as_it_was(
    exported: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write_another(model: nn.Module, input_shape: tuple[int, ...], path: Path, *_: object) -> None:
        with zipfile.ZipFile(exported) as file:
            network = onnx.load_from_string(file.read("model.onnx"))
        bias = next(tensor for tensor in network.graph.initializer if list(tensor.dims) == [4])
        changed = numpy_helper.to_array(bias) + np.array([0, 0, 0, 0.01], np.float32)
        bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
        onnx.save(network, path)

    monkeypatch.setattr("export.image_classifier.write_onnx", write_another)
    monkeypatch.setattr("export.image_classifier.PARITY_IMAGES", 5)
    arguments = ["captcha_image", f"--checkpoint={checkpoint}"]
    message = refused(capsys, *arguments, f"--output_dir={tmp_path}/new")
    assert re.search(r"parity fails at batch 1 for \d+ of 5 inputs; worst is captcha_image\.jpg crop \d+", message)
    assert not (tmp_path / "new").exists()
    shutil.copy(exported, tmp_path)
    refused(capsys, *arguments, f"--output_dir={tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == [exported.name]
    assert (tmp_path / exported.name).read_bytes() == exported.read_bytes()


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("nothing", [], "no spec for 'nothing'"),
        ("../specs/captcha_image", [], "no spec for"),
        ("captcha_image", [], "needs --checkpoint"),
        ("captcha_image", ["--checkpoint=nowhere.pth"], "nowhere.pth does not exist"),
        ("captcha_image", ["--checkpoint=nowhere.pth", "--version=1/2"], "--version takes at most 64 letters"),
        ("captcha_image", ["--checkpoint=nowhere.pth", "--version="], "--version takes"),
        ("captcha_image", ["--checkpoint=nowhere.pth", "--version=-1"], "--version takes"),
        ("captcha_image", ["--checkpoint=nowhere.pth", f"--version={'1' * 65}"], "--version takes"),
        ("captcha_challenge", [], "needs --pool"),
        ("captcha_challenge", ["--pool=."], "is no pool: it has no pool.json"),
    ],
)
def test_a_mistake_is_one_line(
    name: str,
    options: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(capsys, name, *options)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_one_line(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(checkpoint.with_name("meta.json"), tmp_path)
    (tmp_path / "best_model.pth").write_bytes(checkpoint.read_bytes()[:-1000])
    message = refused(
        capsys, "captcha_image", f"--checkpoint={tmp_path}/best_model.pth", f"--output_dir={tmp_path}/out"
    )
    assert "best_model.pth is damaged" in message
    assert not (tmp_path / "out").exists()


def test_other_classes_than_the_checkpoints_are_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(checkpoint, tmp_path)
    members = MEMBERS | {"object": ["cup", "key", "pen"]}
    (tmp_path / "meta.json").write_text(json.dumps(meta(members=members)))
    message = refused(capsys, "captcha_image", f"--checkpoint={tmp_path / checkpoint.name}", f"--output_dir={tmp_path}")
    assert "no weights for torchvision efficientnet_b0, with 5 classes" in message
    assert not (tmp_path / "captcha_image.mar").exists()


def test_a_pool_becomes_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, made = write_pool(tmp_path / "my pool"), tmp_path / "captcha_challenge.mar"
    main(["captcha_challenge", f"--pool={pool}", f"--output_dir={tmp_path}", "--version=2.1"])
    assert f"{made}: 0." in capsys.readouterr().out
    folder = unpack(made, tmp_path / "unpacked")
    assert sorted(path.name for path in (folder / "pool").iterdir()) == sorted(path.name for path in pool.iterdir())
    reply = answer(folder, {"kind": "drag_drop", "count": 4})
    assert len(reply["images"]) == 4
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["version"] == "2.1"
    assert metadata["pool"] == {
        "images": 6,
        "groups": {"animal": 3, "object": 3},
        "attribution": "Drawn by <numpy>.",
    }
    assert "Drawn by <numpy>." in made.with_suffix(".md").read_text()


def test_a_pool_that_is_too_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = write_pool(tmp_path / "pool", groups=("animal",))
    message = refused(capsys, "captcha_challenge", f"--pool={pool}", f"--output_dir={tmp_path}/out")
    assert "two groups of two images" in message
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = write_pool(tmp_path / "pool")
    (tmp_path / "file").write_text("in the way")
    message = refused(capsys, "captcha_challenge", f"--pool={pool}", f"--output_dir={tmp_path}/file")
    assert f"cannot write {tmp_path}/file/captcha_challenge.mar" in message


def test_a_large_archive_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.__main__.MAX_BYTES", 1000)
    main(["captcha_challenge", f"--pool={write_pool(tmp_path / 'pool')}", f"--output_dir={tmp_path}"])
    assert "too large to be released" in capsys.readouterr().err


def test_the_source_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)|unknown", _source_commit())
    monkeypatch.setenv("PATH", "/nonexistent")
    assert _source_commit() == "unknown"
