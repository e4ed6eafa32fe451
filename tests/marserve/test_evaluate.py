"""`marserve evaluate` on small folders whose figures are known: red pictures are animals, blue ones objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from export.pack import pack
from handlers.errors import RequestError
from handlers.pipeline import Pipeline
from handlers.tasks import Item, Task
from marserve.archive import read_archive
from marserve.errors import MarserveError
from marserve.evaluate import Evaluation, evaluate
from marserve.photos import BATCH, Photo, answers, predicted, probabilities, scan
from tests.e2e.archives import read_files, with_handler, write_archive
from tests.export.models import ROOT, flat, load, unpack
from tests.handlers.networks import LABELS, write_classifier
from tests.handlers.networks import SIDE as NETWORK_SIDE
from tests.images import encode
from tests.marserve.conftest import evaluated_alone
from tests.marserve.test_archive import members, write
from tests.marserve.test_cli import Capture, run

RED, BLUE = encode(flat(200, 30, 30), "PNG"), encode(flat(30, 30, 200), "PNG")
BROKEN = encode(flat(200, 30, 30), "JPEG")[:-20]
KEYS = ["model", "version", "images", "unreadable", "accuracy", "macro_f1", "weighted_f1", "groups", "classes"]
KEYS += ["confusion", "log_loss", "calibration_error"]
Run = Callable[..., tuple[int, str, str]]


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


TWO_LEVELS = {
    "animal/fox/1.png": RED,
    "animal/fox/2.PNG": RED,
    "animal/hen/1.png": RED,
    "animal/hen/2.png": BLUE,
    "object/jar/1.png": BLUE,
}
ONE_LEVEL = {f"{name.split('/')[0]}/{name.replace('/', '_')}": content for name, content in TWO_LEVELS.items()}


@pytest.fixture
def scored(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Run:
    """Writes files below a folder and evaluates the archive on it: exit code, stdout and stderr."""

    def score(files: dict[str, bytes], *options: str) -> tuple[int, str, str]:
        folder = fill(tmp_path / "data", files)
        code = run(monkeypatch, "evaluate", archive, "--data_dir", folder, *options)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return score


def test_the_object_for_programs(scored: Run) -> None:
    code, out, err = scored(TWO_LEVELS, "--json")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
    found = json.loads(out)
    assert list(found) == KEYS
    assert (found["model"], found["version"]) == ("red_or_blue", "1.0")
    assert (found["images"], found["unreadable"], found["accuracy"]) == (5, 0, 0.8)
    assert found["confusion"] == {"labels": ["animal", "object"], "matrix": [[3, 1], [0, 1]]}
    assert found["groups"]["animal"] == pytest.approx({"images": 4, "precision": 1, "recall": 0.75, "f1": 6 / 7})
    assert found["groups"]["object"] == pytest.approx({"images": 1, "precision": 0.5, "recall": 1, "f1": 2 / 3})
    assert found["macro_f1"] == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert found["weighted_f1"] == pytest.approx((4 * 6 / 7 + 2 / 3) / 5)
    assert found["classes"] == {
        "animal/fox": {"images": 2, "accuracy": 1},
        "animal/hen": {"images": 2, "accuracy": 0.5},
        "object/jar": {"images": 1, "accuracy": 1},
    }
    # Every answer is certain, and one of five is wrong with 0.000000 for the truth.
    assert found["calibration_error"] == pytest.approx(0.2, abs=1e-5)
    assert found["log_loss"] == pytest.approx(-np.log(1e-15) / 5, abs=1e-5)


def test_a_question(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """The classes are its labels, whatever it answers and however sure it must be."""
    question: dict[str, Any] = {"field": "is_alive", "answers": {"animal": True, "object": False}}
    question |= {"messages": {"animal": "Yes.", "object": "No."}, "confidence_threshold": 1, "unsure": "Hm."}
    asking = tmp_path / "asking.mar"
    write_archive(asking, with_handler(read_files(archive), task="yes_no", question=question))
    folder = fill(tmp_path / "data", ONE_LEVEL)
    assert run(monkeypatch, "evaluate", asking, "--data_dir", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["accuracy"]) == (5, 0.8)
    assert found["confusion"]["matrix"] == [[3, 1], [0, 1]]


def test_images_in_the_groups_own_folders(scored: Run) -> None:
    code, out, _ = scored(ONE_LEVEL, "--json")
    found = json.loads(out)
    assert (code, found["images"], found["accuracy"], found["classes"]) == (0, 5, 0.8, {})


def test_the_answers_are_those_of_a_worker(archive: Path, tmp_path: Path) -> None:
    """One by one or by several threads: the same, and in the same order."""
    random = np.random.default_rng(0)
    pictures = [encode(random.integers(0, 256, (20, 12, 3), np.uint8), "JPEG") for _ in range(5 * BATCH + 3)]
    names = [f"animal/{number:03}.jpg" for number in range(len(pictures))]
    folder = fill(tmp_path / "data", dict(zip(names, pictures, strict=True)) | {"animal/020.jpg": BROKEN})
    pipeline = load(unpack(archive, tmp_path / "model"))
    paths = [folder / name for name in names]
    found = list(answers(pipeline, paths, ""))
    for path, (content, answer) in zip(paths, found, strict=True):
        assert content == path.read_bytes()
        reply = json.loads(pipeline([{"body": content}])[0].body)
        assert (answer.body() if isinstance(answer, RequestError) else answer) == reply
    evaluation, problems = evaluate(read_archive(archive), folder)
    read = [answer for _, answer in found if not isinstance(answer, RequestError)]
    labels = [answer["label"] for answer in read]
    assert evaluation.confusion.matrix == [[labels.count("animal"), labels.count("object")], [0, 0]]
    expected = -np.log(np.clip([answer["probabilities"]["animal"] for answer in read], 1e-15, 1)).mean()
    assert evaluation.log_loss == pytest.approx(expected)
    assert problems == [(folder / "animal/020.jpg", "the image/jpeg data is damaged or cut short")]


def test_unreadable_images_are_named_and_left_out(scored: Run) -> None:
    broken = {f"object/jar/{number:02}.jpg": BROKEN for number in range(23)} | {"object/lid/1.png": b""}
    code, out, err = scored(TWO_LEVELS | broken, "--json")
    found = json.loads(out)
    assert (code, found["images"], found["unreadable"], found["accuracy"]) == (0, 5, 24, 0.8)
    assert "object/lid" not in found["classes"]
    lines = err.splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("unreadable: ")
    assert lines[0].endswith("/object/jar/00.jpg: the image/jpeg data is damaged or cut short")
    assert lines[-1] == "unreadable: 4 more"


def test_what_the_system_cannot_read_says_so(archive: Path, tmp_path: Path) -> None:
    pipeline = load(unpack(archive, tmp_path / "model"))
    ((content, answer),) = answers(pipeline, [tmp_path], "")
    assert content == b""
    assert str(answer) == "Is a directory"


def test_hidden_files_and_other_files_are_no_images(scored: Run) -> None:
    hidden = [".git/1.png", "animal/.1.png", "animal/.old/1.png", "animal/fox/.1.png", "animal/fox/a.txt", "b.png"]
    code, out, err = scored(TWO_LEVELS | dict.fromkeys(hidden, b"?"), "--json")
    assert (code, json.loads(out)["images"], err) == (0, 5, "")


def test_a_label_without_a_folder(scored: Run) -> None:
    code, out, err = scored({"animal/1.png": RED})
    assert (code, err) == (0, "")
    assert "no images of object" in out
    code, out, _ = scored({}, "--json")
    found = json.loads(out)
    assert found["groups"]["object"] == {"images": 0, "precision": 0, "recall": 0, "f1": 0}
    assert found["macro_f1"] == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": b""}, "data has no images in <group>/<class>/*.jpg|png|webp or <group>/*.jpg|png|webp"),
        ({"1.png": RED}, "data has no images in"),
        ({"animal/fox/deep/1.png": RED}, "data has no images in"),
        (TWO_LEVELS | {"plant/oak/1.png": RED}, "data/plant: the model knows the groups animal, object, not plant"),
        (TWO_LEVELS | {"Animal/.x": b""}, "data/Animal: the model knows the groups animal, object, not Animal"),
        (TWO_LEVELS | {"animal/1.png": RED}, "data/animal holds images itself and in "),
        ({"animal/1.jpg": BROKEN, "object/1.png": b"?"}, "none of the 2 images in "),
    ],
)
def test_a_folder_that_cannot_be_scored(files: dict[str, bytes], message: str, scored: Run) -> None:
    for options in ([], ["--json"]):
        code, out, err = scored(files, *options)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert message in err
        assert len(err.splitlines()) == 1


def test_no_folder(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for place, reason in ((tmp_path / "no", "No such file or directory"), (archive, "Not a directory")):
        assert run(monkeypatch, "evaluate", archive, "--data_dir", place) == 2
        assert capsys.readouterr().err == f"error: cannot read {place}: {reason}\n"


def test_the_name(
    archive: Path, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Of a model in the store, or the path of an archive."""
    folder = fill(tmp_path / "data", TWO_LEVELS)
    store = fill(tmp_path / "store", {"red_or_blue.mar": archive.read_bytes()})
    damaged = write(tmp_path / "damaged.mar", members(archive) | {"model.onnx": b"another"})
    for name, code, message in [
        ("red_or_blue", 0, ""),
        (archive, 0, ""),
        ("green", 1, f"no green in {store}; it has red_or_blue\n"),
        ("red_or_blue.mar", 1, "red_or_blue.mar does not exist\n"),
        (folder, 1, f"no {folder} in {store}; it has red_or_blue\n"),
        (damaged, 1, f"{damaged} cannot be used: model.onnx is not the file that was packed"),
        (ROOT / "model_store/captcha_challenge.mar", 1, "is for random_images; what can be evaluated is image_class"),
        (foreign, 1, "is for nothing that marserve knows; what can be evaluated is image_classification, digit_rec"),
    ]:
        assert run(monkeypatch, "evaluate", name, "--data_dir", folder, "--model-store", store) == code
        err = capsys.readouterr().err
        assert message in err
        assert len(err.splitlines()) == code


def test_the_report(scored: Run) -> None:
    code, out, err = scored(TWO_LEVELS | {"object/jar/2.png": b"GIF89a"})
    assert code == 0
    assert err.endswith("/object/jar/2.png: expected a JPEG, PNG or WebP image\n")
    lines = out.splitlines()
    assert lines[0] == "red_or_blue  version 1.0: 5 images, 1 unreadable"
    assert lines[1] == "accuracy 0.8000  macro F1 0.7619  weighted F1 0.8190"
    assert lines[2] == "log loss 6.9078  calibration error 0.2000"
    rows = [line.split() for line in lines]
    assert ["label", "images", "as", "animal", "as", "object", "precision", "recall", "F1"] in rows
    assert ["animal", "4", "3", "1", "1.0000", "0.7500", "0.8571"] in rows
    first = rows.index(["class", "images", "accuracy"]) + 2
    assert [row[0] for row in rows[first : first + 3]] == ["animal/hen", "animal/fox", "object/jar"]
    assert "\x1b" not in out


def test_of_many_classes_the_report_has_the_worst(scored: Run) -> None:
    classes = {f"animal/right_{number:02}/1.png": RED for number in range(12)}
    classes |= {f"animal/wrong_{number:02}/1.png": BLUE for number in range(8)}
    _, out, _ = scored(classes)
    assert out.count("animal/") == 20
    assert "more classes" not in out
    _, out, _ = scored({"animal/[b]\x1b[2J/1.png": RED, "object/jar/1.png": BLUE})
    assert out.count("animal/") == 10
    assert out.count("animal/wrong") == 8
    assert "animal/[b]\N{REPLACEMENT CHARACTER}[2J" in out
    assert out.endswith("12 more classes, 1.0000 or better\n")


def test_nothing_heavy_is_loaded(archive: Path, tmp_path: Path) -> None:
    found, heavy = evaluated_alone(archive, fill(tmp_path / "data", TWO_LEVELS))
    assert found["accuracy"] == 0.8
    assert not heavy


def colours(folder: Path, **options: Any) -> Path:
    """An archive whose network takes red, green and blue apart."""
    network = write_classifier(folder / "network.onnx", **options)
    handler = {
        "task": "image_classification",
        "labels": list(LABELS),
        "network": {"file": "model.onnx", "input_shape": [NETWORK_SIDE, NETWORK_SIDE, 3]},
    }
    pack(folder / "colours.mar", "colours", "1", yaml.safe_dump({"handler": handler}), {}, "", {"model.onnx": network})
    return folder / "colours.mar"


def test_three_labels_of_which_one_is_not_there(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data", {"red/1.png": RED, "blue/1.png": BLUE, "blue/2.png": RED})
    evaluation, _ = evaluate(read_archive(colours(tmp_path)), folder)
    assert isinstance(evaluation, Evaluation)
    assert evaluation.confusion.labels == ["red", "green", "blue"]
    assert evaluation.confusion.matrix == [[1, 0, 0], [0, 0, 0], [1, 0, 1]]
    assert evaluation.macro_f1 == pytest.approx(2 / 3)


def test_a_model_that_answers_with_no_numbers(tmp_path: Path) -> None:
    """A server replies with an error of its own then: no image is to blame, and no figure is right."""
    folder = fill(tmp_path / "data", {"red/1.png": encode(flat(255, 255, 255), "PNG")})
    with pytest.raises(MarserveError, match=r"fails on .*1\.png: it puts out no numbers"):
        evaluate(read_archive(colours(tmp_path, breaks_above=0.5)), folder)


def test_a_model_that_fails(tmp_path: Path) -> None:
    class Failing(Task):
        def decode(self, instance: object) -> Item:
            raise ValueError(instance)

        def encode(self, item: Item, row: object) -> dict[str, Any]:
            raise NotImplementedError

    with pytest.raises(MarserveError, match=r"fails on .*1\.png; see the log above"):
        list(answers(Pipeline(Failing(), None), [fill(tmp_path, {"1.png": RED}) / "1.png"], ""))


def test_each_label_may_have_its_own_layout(tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a/1.webp": b"", "b/c/2.jpeg": b"", "b/d/.e/3.jpg": b""})
    assert scan(folder, ["a", "b"]) == [Photo(folder / "a/1.webp", "a", ""), Photo(folder / "b/c/2.jpeg", "b", "c")]


def test_a_reply_with_the_likeliest_labels_alone() -> None:
    top = [{"label": "b", "probability": 0.5}, {"label": "d", "probability": 0.3}]
    assert predicted({"top": top}) == "b"
    assert probabilities({"top": top}, "abcd") == pytest.approx([0.1, 0.5, 0.1, 0.3])
    assert probabilities({"top": top}, "bd") == [0.5, 0.3]
    assert probabilities({"probabilities": {"a": 0.25, "b": 0.75}}, "ba") == [0.75, 0.25]
