"""Label Studio's exports as it writes them, everything that is left out of them, and names that want to get away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.training.photos import encoded
from training import labelstudio
from training.captcha_dataset import scan
from training.cli import DataError
from training.convert_labelstudio import ImageFolder, main, places
from training.files import write_new

ROOT = Path(__file__).parents[2]
PHOTOS = [encoded("disc", (220, 40, 40), (16, 16), "PNG", seed) for seed in range(40)]

# Converts and kills itself (SIGKILL) in front of its n-th change to the file system.
KILLED = """
import os, signal, sys
from training import convert_labelstudio
left = int(sys.argv[1])
def hook(event, arguments):
    global left
    if event in ("os.link", "os.rename"):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
sys.addaudithook(hook)
convert_labelstudio.main(sys.argv[2:])
"""


def chosen(*choices: Any, by: str = "label", kind: str = "choices") -> dict[str, Any]:
    """A result, as the editor makes it."""
    value = {kind: list(choices)}
    return {"id": "yrSY-dipPI", "from_name": by, "to_name": "img", "origin": "manual", "type": kind, "value": value}


def annotation(*results: dict[str, Any], cancelled: bool = False) -> dict[str, Any]:
    return {
        "id": 1001,
        "completed_by": 1,
        "result": list(results),
        "was_cancelled": cancelled,
        "ground_truth": False,
        "created_at": "2024-03-09T22:16:08.728353Z",
        "updated_at": "2024-03-09T22:16:08.728378Z",
        "lead_time": 4.288,
        "prediction": {},
        "result_count": 0,
        "task": 1,
    }


def task(image: str | None, *annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    """An item of the format JSON."""
    return {
        "id": 1,
        "annotations": list(annotations),
        "file_upload": "3f2a9c01-cat.png",
        "drafts": [],
        "predictions": [{"result": [chosen("a prediction is no label")]}],
        "data": data if image is None else {"image": image, **data},
        "meta": {},
        "created_at": "2024-03-09T21:52:49.513742Z",
        "updated_at": "2024-03-09T22:16:08.746926Z",
        "total_annotations": len(annotations),
        "project": 83,
    }


def labelled(image: str, *choices: Any) -> dict[str, Any]:
    return task(image, annotation(chosen(*choices)))


def flat(image: str, **choices: Any) -> dict[str, Any]:
    """An item of the format JSON-MIN."""
    return {
        "image": image,
        "id": 1,
        **choices,
        "annotator": 1,
        "annotation_id": 1001,
        "created_at": "2024-03-09T22:16:08.728353Z",
        "updated_at": "2024-03-09T22:16:08.728378Z",
        "lead_time": 4.288,
    }


def fill(folder: Path, *names: str, first: int = 0) -> Path:
    """Images below `folder`, each another one."""
    for number, name in enumerate(names, first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PHOTOS[number])
    return folder


def command(tmp_path: Path, *options: str) -> list[str]:
    folders = ["--image-dir", str(tmp_path / "photos"), "--output-dir", str(tmp_path / "out")]
    return [str(tmp_path / "export.json"), *folders, *options]


def convert(tmp_path: Path, export: object, *options: str) -> dict[str, bytes]:
    """Converts with `tmp_path`'s photos; the places in `out`, without train or val, and what is there."""
    (tmp_path / "photos").mkdir(exist_ok=True)
    (tmp_path / "export.json").write_text(json.dumps(export))
    main(command(tmp_path, *options))
    return {str(Path(*Path(place).parts[1:])): data for place, data in contents(tmp_path / "out").items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


ANIMALS = [f"{name}_{number}.png" for name in ("cat", "dog") for number in range(10)]
OBJECTS = [f"cup_{number}.png" for number in range(10)]
ALL = {name: ("animal" if name in ANIMALS else "object", name.partition("_")[0]) for name in ANIMALS + OBJECTS}


def uploads(flat_ones: bool, two_controls: bool) -> list[dict[str, Any]]:
    """ALL as uploaded images of either format, labelled with one control or two."""
    items = []
    for name, (group, class_name) in ALL.items():
        image = f"/data/upload/1/3f2a9c01-{name}"
        if flat_ones:
            choices = {"group": group, "kind": class_name} if two_controls else {"label": f"{group}/{class_name}"}
            items.append(flat(image, **choices))
        else:
            both = (chosen(group, by="group"), chosen(class_name, by="kind"))
            results = both if two_controls else (chosen(f"{group}/{class_name}"),)
            items.append(task(image, annotation(*results)))
    return items


@pytest.mark.parametrize("flat_ones", [False, True])
@pytest.mark.parametrize("two_controls", [False, True])
def test_both_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str], flat_ones: bool, two_controls: bool) -> None:
    fill(tmp_path / "photos", *ALL)
    keys = ["--group", "group", "--class", "kind"] if two_controls else []
    found = convert(tmp_path, uploads(flat_ones, two_controls), "--validation_share", "0.2", *keys)
    assert found == {f"{'/'.join(label)}/{name}": PHOTOS[n] for n, (name, label) in enumerate(ALL.items())}
    for part, count in (("train", 8), ("val", 2)):
        photos = scan(tmp_path / "out" / part)
        assert len(photos) == 3 * count
        assert {(photo.group, photo.class_name) for photo in photos} == set(ALL.values())
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.splitlines() == [
        "animal: 16 train, 4 val",
        "  cat: 8 train, 2 val",
        "  dog: 8 train, 2 val",
        "object: 8 train, 2 val",
        "  cup: 8 train, 2 val",
        "total: 24 train, 6 val, 3 classes",
    ]


def test_the_seed_decides_and_other_classes_do_not(tmp_path: Path) -> None:
    fill(tmp_path / "photos", *ALL)
    seen = []
    for number, (seed, items) in enumerate([(1, slice(None)), (1, slice(None)), (2, slice(None)), (1, slice(20))]):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "photos").symlink_to(tmp_path / "photos")
        convert(place, uploads(True, False)[items][::-1], "--seed", str(seed), "--validation_share", "0.4")
        seen.append(set(contents(place / "out" / "val")))
    assert seen[0] == seen[1] != seen[2]
    assert seen[3] == {place for place in seen[0] if place.startswith("animal")}


@pytest.mark.parametrize(
    ("choice", "place"),
    [
        ("cat", "cat/cat"),
        ("animal/cat", "animal/cat"),
        (" animal / cat ", "animal/cat"),
        (["animal", "cat"], "animal/cat"),
        ("동물/고양이", "동물/고양이"),
        ("v1.0 (x+)", "v1.0 (x+)/v1.0 (x+)"),
    ],
)
def test_the_choice_is_the_folder(tmp_path: Path, choice: str | list[str], place: str) -> None:
    fill(tmp_path / "photos", "a.png")
    assert list(convert(tmp_path, [labelled("a.png", choice)])) == [f"{place}/a.png"]


def test_other_shapes_of_a_choice(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "a.png", "b.png", "c.png")
    export = [
        flat("a.png", label={"choices": ["cat"]}),
        flat("b.png", label=[{"taxonomy": [["animal", "dog"]]}]),
        task("c.png", annotation(chosen(["animal", "cow"], by="label", kind="taxonomy"))),
    ]
    assert set(convert(tmp_path, export)) == {"cat/cat/a.png", "animal/dog/b.png", "animal/cow/c.png"}


@pytest.mark.parametrize(
    ("reference", "file"),
    [
        ("/data/upload/1/3f2a9c01-a.png", "a.png"),
        ("/data/upload/1/3f2a9c01-a.png", "deep/er/3f2a9c01-a.png"),
        ("http://localhost:8080/data/upload/1/3f2a9c01-a.png", "a.png"),
        ("/data/upload/1/3f2a9c01-%EA%B3%A0%EC%96%91%EC%9D%B4.png", "고양이.png"),
        ("/data/upload/1/3f2a9c01-고양이.png", "\u1100\u1169\u110b\u1163\u11bc\u110b\u1175.png"),  # as macOS has it
        ("/data/upload/1/3f2a9c01-my_cat_1.png", "my cat (1).png"),
        ("../../data/media/upload/1/3f2a9c01-a.png", "a.png"),
        ("/data/local-files/?d=set/my%20cat%20%26%2B%231.png", "set/my cat &+#1.png"),
        ("/data/local-files/?d=project/set/a.png", "set/a.png"),
        ("/data/local-files/?d=set%5Ca.png", "set/a.png"),
        ("http://host/data/local-files?d=a.png", "a.png"),
        ("s3://bucket/some/a%20b#1.png", "a%20b#1.png"),
        ("gs://bucket/some/a.png", "some/a.png"),
        ("https://host/some/a.png?X-Amz-Signature=1/b.png", "a.png"),
        ("http://[/a.png", "a.png"),
        ("C:\\photos\\a.png", "a.png"),
        ("a.png", "A/a.png"),
    ],
)
def test_where_an_image_is_found(tmp_path: Path, reference: str, file: str) -> None:
    fill(tmp_path, file, ".hidden/a.png", "other.png")
    assert ImageFolder(tmp_path).find(reference) == [tmp_path / file]


@pytest.mark.timeout(30)  # a path may have any length
def test_a_path_is_more_than_a_name(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "x/a.png", "y/a.png", "my cat.png", "my_cat.png", "upload/2/3f2a9c01-my_cat.png")
    images = ImageFolder(tmp_path)
    for reference, files in {
        "/data/local-files/?d=a.png": ["a.png"],
        "/data/local-files/?d=y/a.png": ["y/a.png"],
        "s3://bucket/x/a.png": ["x/a.png"],
        "s3://bucket/z/a.png": ["a.png", "x/a.png", "y/a.png"],
        "/data/upload/2/3f2a9c01-my_cat.png": ["upload/2/3f2a9c01-my_cat.png"],
        "/data/upload/2/00000000-my_cat.png": ["my cat.png", "my_cat.png"],
        "s3://bucket/00000000-a.png": [],  # no upload, so this is its name
        "a/" * 100_000 + "x/a.png": ["x/a.png"],
    }.items():
        assert sorted(images.find(reference)) == sorted(tmp_path / file for file in files), reference[:80]


@pytest.mark.parametrize(
    "reference",
    [
        "/data/local-files/?d=../secret.png",
        "/data/local-files/?d=%2e%2e%2fsecret.png",
        "/data/local-files/?d=sub/../../secret.png",
        "/data/local-files/?d=link.png",
        "/data/local-files/?d=folder/secret.png",
        "/data/local-files/?d={tmp}/secret.png",
        "file://{tmp}/secret.png",
        "../secret.png",
        "..\\secret.png",
        "{tmp}/secret.png",
        "secret.png\0",
        "\ud800.png",
        "..",
        "/",
        "",
    ],
)
def test_nothing_outside_is_found(tmp_path: Path, reference: str) -> None:
    fill(tmp_path, "secret.png", "photos/sub/a.png")
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "photos" / "dead.png").symlink_to("nowhere.png")
    (tmp_path / "photos" / "folder").symlink_to(tmp_path)
    assert ImageFolder(tmp_path / "photos").find(reference.replace("{tmp}", str(tmp_path))) == []


def test_links_that_stay_inside_are_images(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "store/1.png")
    (tmp_path / "photos" / "a.png").symlink_to("store/1.png")
    assert convert(tmp_path, [labelled("a.png", "cat")]) == {"cat/cat/a.png": PHOTOS[0]}
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def left_out(text: str) -> dict[str, list[str]]:
    """The report: reason and names."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("left out, "):
            found[line.removeprefix("left out, ").partition(" ")[0]] = []
        elif line.startswith("  "):
            found[list(found)[-1]].append(line.strip())
    return found


def test_what_is_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "photos", *"abcdefghi", "k.gif", "x/l.png", "y/l.png")
    for name in "abcdefghi":
        (tmp_path / "photos" / name).rename(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "photos" / "copy of h.png").write_bytes((tmp_path / "photos" / "h.png").read_bytes())
    export = [
        labelled("a.png", "cat"),
        task("a.png", annotation(chosen("cat")), annotation(chosen("cat")), annotation(chosen("dog"), cancelled=True)),
        task("b.png"),
        task("c.png", annotation()),
        task("d.png", annotation(chosen("cat"), cancelled=True)),
        task("e.png", annotation(chosen()), annotation(chosen(""))),
        task("f.png", annotation(chosen("cat")), annotation(chosen("dog"))),
        labelled("g.png", "cat", "dog"),
        labelled("h.png", "cat"),
        labelled("copy of h.png", "dog"),
        labelled("i.png", "cat"),
        labelled("/elsewhere/i.png", "animal/cat"),
        labelled("j\n.png", "cat"),
        labelled("\ud800.png", "cat"),
        labelled("k.gif", "cat"),
        labelled("l.png", "cat"),
        task(None, annotation(chosen("cat")), text="no image"),
    ]
    assert convert(tmp_path, export) == {"cat/cat/a.png": PHOTOS[0]}
    err = capsys.readouterr().err
    assert left_out(err.partition("note:")[0]) == {
        "unlabelled": ["'b.png'", "'c.png'", "'d.png'", "'e.png'"],
        "conflicting": [
            "'f.png': cat/cat, dog/dog",
            "'g.png': cat/cat, dog/dog",
            "'h.png': cat/cat, dog/dog",
            "'i.png': animal/cat, cat/cat",
        ],
        "missing": ["'j\\n.png'", "'?.png'", "task 17"],
        "ambiguous": ["'l.png'"],
        "unsupported": ["'k.gif'"],
    }
    assert "left out, unlabelled (no annotation, cancelled, or no choice): 4" in err
    assert err.endswith("note: cat/cat has 1 image(s), all in train: val needs three, training two\n")


def test_flat_items_without_a_choice_or_with_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "photos", "a.png", "b.png", "c.png", "d.png")
    export = [
        flat("a.png", label="cat"),
        flat("b.png"),
        flat("c.png", label={"choices": ["cat", "dog"]}),
        flat("d.png", label="cat"),
        flat("d.png", label="dog"),
    ]
    assert set(convert(tmp_path, export)) == {"cat/cat/a.png"}
    found = left_out(capsys.readouterr().err.partition("note:")[0])
    assert found == {
        "unlabelled": ["'b.png'"],
        "conflicting": ["'c.png': cat/cat, dog/dog", "'d.png': cat/cat, dog/dog"],
    }


def test_twenty_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = [labelled(f"{'long' * 1000}{number}.png", "cat") for number in range(1025)]
    with pytest.raises(DataError, match=r"no image of .* can be converted; nothing is written"):
        convert(tmp_path, export)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "left out, missing (not in --image-dir): 1,025"
    assert lines[-1] == "  and 1,005 more"
    assert len(lines) == 22
    assert max(map(len, lines)) < 250
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "photos"]


def test_equal_names_and_equal_bytes(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "x/a.png", "y/a.png", "z/A.png", "a_2.png")
    (tmp_path / "photos" / "copy.png").write_bytes(PHOTOS[0])
    names = ("x/a.png", "y/a.png", "z/A.png", "a_2.png", "copy.png", "x/a.png")
    found = convert(tmp_path, [labelled(f"/data/local-files/?d={name}", "cat") for name in names])
    assert sorted(found.values()) == sorted(PHOTOS[:4])
    assert len({place.casefold() for place in found}) == 4


def test_ten_thousand_equal_names_take_no_time() -> None:
    paths = [Path(str(number), "a.png") for number in range(10_000)]
    train, val = places(paths, 0.1, "seed")
    assert len(val) == 1000
    assert sorted({**train, **val}.values()) == sorted(paths)


@pytest.mark.parametrize(("count", "val"), [(1, 0), (2, 0), (3, 1), (4, 2), (10, 8)])
def test_two_of_a_class_stay_in_train(tmp_path: Path, count: int, val: int) -> None:
    fill(tmp_path / "photos", *ANIMALS[:count])
    convert(tmp_path, [labelled(name, "cat") for name in ANIMALS[:count]], "--validation_share", "0.9")
    assert len(contents(tmp_path / "out" / "train")) == count - val
    assert (tmp_path / "out" / "val").exists() == bool(val)


@pytest.mark.parametrize(
    ("export", "options", "message"),
    [
        (
            [task("a.png", annotation(chosen("x", by="kind"), chosen("y", by="sex")))],
            [],
            "a choice: 'kind', 'sex'; .*--class",
        ),
        (
            [flat("a.png", kind="x", sex="y")],
            [],
            "several keys hold a choice: 'kind', 'sex'; name one with --class KEY",
        ),
        ([flat("a.png", kind="x", caption="a cat")], [], "'caption', 'kind'; name one with --class KEY"),
        ([flat("a.png", kind="x", mask="m.png")], [], "several keys hold an image: 'image', 'mask'; .*--image KEY"),
        ([task("a.png", mask="m.tif")], [], "several keys hold an image: 'image', 'mask'; .*--image KEY"),
        ([flat("a.png", kind="x")], ["--class", "sort"], "no 'sort' holds a choice in the export; there are: 'kind'"),
        ([flat("a.png", kind="x")], ["--group", "kind"], "--group needs --class KEY beside it"),
        ([flat("a.png", kind="x")], ["--group", "g", "--class", "kind"], "no 'g' holds a choice"),
        (
            [flat("a.png", kind="x")],
            ["--image", "photo"],
            "no 'photo' holds an image in the export; there are: 'image'",
        ),
        ([flat("no image", kind="x")], [], "no key of the export holds an image"),
        ([flat("a.png")], [], "no key of the export holds a choice"),
        ([task("a.png", annotation(chosen("x"), cancelled=True))], [], "no key of the export holds a choice"),
        ([flat("a.png", kind="x")], ["--validation_share", "1"], "--validation_share must lie between 0 and 1"),
        ({"image": "a.png"}, [], "is not a list of tasks; export it as JSON or JSON-MIN"),
        ([], [], "is not a list of tasks"),
        ([flat("a.png", kind="x"), "b.png"], [], "task 2 is not an object"),
    ],
)
def test_what_has_to_be_told(tmp_path: Path, export: object, options: list[str], message: str) -> None:
    fill(tmp_path / "photos", "a.png")
    with pytest.raises(DataError, match=message):
        convert(tmp_path, export, *options)
    assert not (tmp_path / "out").exists()


def test_keys_that_are_told(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "a.png", "b.png")
    export = [flat("a.png", mask="b.png", kind="cat", sex="f")]
    keys = ["--image", "mask", "--group", "sex", "--class", "kind"]
    assert convert(tmp_path, export, *keys) == {"f/cat/b.png": PHOTOS[1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"[" + b"9" * 5000 + b"]", "is not JSON"),
        (b"[" * 200_000, "is nested too deeply"),
        (b'[{"image": ' + b"[" * 200_000, "is nested too deeply"),
        (b"null", "is not a list of tasks"),
        (None, "cannot read .*: No such file or directory"),
    ],
)
def test_what_is_no_export(tmp_path: Path, text: bytes | None, message: str) -> None:
    (tmp_path / "photos").mkdir()
    if text is not None:
        (tmp_path / "export.json").write_bytes(text)
    with pytest.raises(DataError, match=message):
        main(command(tmp_path))
    (tmp_path / "export.json").write_text(json.dumps([flat("a.png", label="cat")]))
    (tmp_path / "photos").rmdir()
    with pytest.raises(DataError, match="photos is not a folder; --image-dir"):
        main(command(tmp_path))


BAD = ["..", ".", "/", "//", "a/", "/a", "../a", "a/..", "a/../../b", "/etc/passwd", "a/b/c", "a\\b", ".git", "a/.b"]


@pytest.mark.parametrize("choice", [*BAD, "a\0", "a\nb", "\ud800", "\x7f", "x" * 256, "고" * 86])
def test_choices_that_cannot_name_a_folder(tmp_path: Path, choice: str) -> None:
    fill(tmp_path / "photos", "a.png")
    for export in ([labelled("a.png", choice)], [flat("a.png", label=choice)]):
        with pytest.raises(
            DataError, match=r"of a choice cannot name a folder .*; rename the choice in .*export\.json"
        ):
            convert(tmp_path, export)
    two = [flat("a.png", group=choice, kind="cat")]
    if choice in ("a/", "/a"):  # with two controls a "/" parts nothing
        two[0]["group"] = "a/b"
    with pytest.raises(DataError, match="cannot name a folder"):
        convert(tmp_path, two, "--group", "group", "--class", "kind")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "a.png")
    missing = [str(tmp_path / "no export.json"), *command(tmp_path)[1:]]  # so it is checked before any work
    for name, options in (("out", []), ("out.zip", ["--zip"])):
        (tmp_path / name).write_text("precious")
        with pytest.raises(DataError, match=f"{name} exists; choose another --output_dir or remove it"):
            main([*missing, *options])
        assert (tmp_path / name).read_text() == "precious"
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to("nowhere")
        with pytest.raises(DataError, match=f"{name} exists"):
            main([*missing, *options])
        (tmp_path / name).unlink()
    (tmp_path / "out.zip").write_text("another's")
    assert convert(tmp_path, [labelled("a.png", "cat")]) == {"cat/cat/a.png": PHOTOS[0]}
    assert (tmp_path / "out.zip").read_text() == "another's"


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "photos", "a.png", "b.png")

    class Files(dict[str, Path]):
        def items(self) -> Any:
            (tmp_path / name).touch()
            return super().items()

    with pytest.raises(DataError, match=f"{name} exists"):
        write_new(Files({"a.png": tmp_path / "photos" / "a.png"}), tmp_path / "out", archive=True)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", name}
    with pytest.raises(DataError, match=f"{name} exists"):
        write_new({}, tmp_path / "out", archive=True)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "a.png")
    (tmp_path / "file").touch()
    (tmp_path / "export.json").write_text(json.dumps([labelled("a.png", "cat")]))
    with pytest.raises(DataError, match=r"cannot write .*file/out: "):
        main([*command(tmp_path)[:-1], str(tmp_path / "file" / "out")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "file", "photos"]


def test_the_zip_file_is_always_the_same(tmp_path: Path) -> None:
    archives = []
    for name, export in (("1", uploads(True, False)), ("2", uploads(False, False)[::-1])):
        (tmp_path / name).mkdir()
        fill(tmp_path / name / "photos", *ALL)
        for path in (tmp_path / name / "photos").iterdir():
            os.utime(path, (int(name) * 10**8, int(name) * 10**8))
        convert(tmp_path / name, export, "--zip")
        archives.append((tmp_path / name / "out.zip").read_bytes())
    assert archives[0] == archives[1]
    with zipfile.ZipFile(tmp_path / "1" / "out.zip") as file:
        assert file.testzip() is None
        assert {entry.filename: file.read(entry) for entry in file.infolist()} == contents(tmp_path / "1" / "out")
        assert file.namelist() == sorted(file.namelist())
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("changes", range(4))  # a link for each of two images, then the folder and the ZIP file appear
def test_killed_anywhere_it_is_all_or_nothing(tmp_path: Path, changes: int) -> None:
    fill(tmp_path / "photos", "a.png", "b.png")
    (tmp_path / "export.json").write_text(json.dumps([labelled("a.png", "cat"), labelled("b.png", "dog")]))
    program = [sys.executable, "-c", KILLED, str(changes), *command(tmp_path, "--zip")]
    killed = subprocess.run(program, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "out.zip").exists()
    if changes == 3:
        assert len(contents(tmp_path / "out")) == 2
    else:
        assert not (tmp_path / "out").exists()
        main(command(tmp_path, "--zip"))
        assert len(contents(tmp_path / "out")) == 2


TEXTS = st.text(st.sampled_from("a./\\ \0\n\ud800%:?#")) | st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["choices", "taxonomy"]) | JSON,
        "from_name": st.just("label") | JSON,
        "value": st.fixed_dictionaries({}, optional={"choices": JSON, "taxonomy": JSON}) | JSON,
    },
)
ANNOTATIONS = st.fixed_dictionaries(
    {}, optional={"result": st.lists(RESULTS | JSON, max_size=3) | JSON, "was_cancelled": JSON}
)
IMAGES = st.sampled_from(["a.png", "/data/local-files/?d=../a.png", "s3://b/a.png", "http://[/a.png"]) | JSON
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "data": st.fixed_dictionaries({}, optional={"image": IMAGES}) | JSON,
        "annotations": st.lists(ANNOTATIONS | JSON, max_size=3) | JSON,
        "image": IMAGES,
        "label": JSON,
        "id": JSON,
    },
)


@settings(deadline=None, max_examples=200)
@given(
    JSON | st.lists(ITEMS | JSON, max_size=4),
    st.sampled_from([(), ("image", None, "label"), ("image", "label", "label")]),
)
def test_any_json_is_an_export_or_a_clear_error(value: object, keys: Sequence[str | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "export.json")
        path.write_text(json.dumps(value))
        with contextlib.suppress(DataError):
            for found in labelstudio.read(path, *keys):
                assert all(name and "/" not in name for label in found.labels for name in label)
                assert "\n" not in found.name
                found.image.encode()
                assert ImageFolder(Path(folder)).find(found.image) == []


@settings(deadline=None, max_examples=150)
@given(TEXTS, TEXTS, st.booleans())
@example("a/..", "", False)
@example("..", "..", True)
@example("/tmp", "a\0", True)  # noqa: S108 (never written)
def test_no_choice_leads_outside(group: str, name: str, two: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tmp_path = Path(folder, "inside")
        fill(tmp_path / "photos", "a.png")
        choices = {"group": group, "kind": name} if two else {"kind": group + name}
        options = ["--group", "group", "--class", "kind"] if two else []
        with contextlib.suppress(DataError):
            found = convert(tmp_path, [flat("a.png", **choices)], *options, "--image", "image", "--zip")
            assert [place.count("/") for place in found] == [2]
        assert {path.name for path in Path(folder).iterdir()} == {"inside"}
        names = {path.name for path in tmp_path.iterdir()}
        assert names in ({"photos", "export.json"}, {"photos", "export.json", "out", "out.zip"})
        assert contents(tmp_path / "photos") == {"a.png": PHOTOS[0]}


def test_as_a_script(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "a.png", "b.png", "c.png")
    export = [labelled(name, "cat") for name in ("a.png", "b.png", "c.png", "d.png")]
    (tmp_path / "export.json").write_text(json.dumps(export))
    program = [sys.executable, "training/convert_labelstudio.py", *command(tmp_path)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "cat: 2 train, 1 val\n  cat: 2 train, 1 val\ntotal: 2 train, 1 val, 1 classes\n"
    assert done.stderr == "left out, missing (not in --image-dir): 1\n  'd.png'\n"
    again = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 2
    assert again.stderr == f"error: {tmp_path / 'out'} exists; choose another --output_dir or remove it\n"
