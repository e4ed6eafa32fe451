"""The renaming: right names, nothing lost or overwritten, repeatable, and safe to kill at any point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handlers.image import SUFFIXES
from training import name_changer
from training.cli import DataError

ROOT = Path(__file__).parents[2]

# Runs the renaming and kills itself (SIGKILL) in front of its n-th change to the file system.
KILLED = """
import os, signal, sys
from training import name_changer
left = int(sys.argv[1])
def hook(event, arguments):
    global left
    if event in ("os.link", "os.remove", "os.rename"):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
sys.addaudithook(hook)
name_changer.main(["--data_dir", sys.argv[2]])
"""


def fill(data_dir: Path, *names: str, folder: str = "animal/cheetah") -> Path:
    """Files whose content is their first name; returns their folder."""
    path = data_dir / folder
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).write_bytes(os.fsencode(name))
    return path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: os.fsdecode(path.read_bytes()) for path in folder.iterdir() if path.is_file()}


def change(data_dir: Path, *options: str) -> None:
    name_changer.main(["--data_dir", str(data_dir), *options])


def test_numbers_from_one_in_natural_order(tmp_path: Path) -> None:
    folder = fill(tmp_path, "b10.png", "b2.JPG", "a.JPEG", "b02.webp")
    change(tmp_path)
    assert contents(folder) == {
        "cheetah_1.jpeg": "a.JPEG",
        "cheetah_2.jpg": "b2.JPG",
        "cheetah_3.webp": "b02.webp",
        "cheetah_4.png": "b10.png",
    }


def test_named_files_keep_their_number_and_others_fill_the_gaps(tmp_path: Path) -> None:
    names = ("cheetah_2.jpg", "cheetah_5.PNG", "cheetah_03.jpg", "new.jpg", "x.jpg", "lion_1.jpg")
    folder = fill(tmp_path, *names)
    change(tmp_path)
    assert contents(folder) == {
        "cheetah_2.jpg": "cheetah_2.jpg",
        "cheetah_5.png": "cheetah_5.PNG",
        "cheetah_1.jpg": "cheetah_03.jpg",
        "cheetah_3.jpg": "lion_1.jpg",
        "cheetah_4.jpg": "new.jpg",
        "cheetah_6.jpg": "x.jpg",
    }


def test_a_number_belongs_to_one_image(tmp_path: Path) -> None:
    folder = fill(tmp_path, "cheetah_1.JPG", "cheetah_1.jpg", "cheetah_1.png", "cheetah_2.Jpg", "cheetah_2.WEBP")
    change(tmp_path)
    assert contents(folder) == {
        "cheetah_1.jpg": "cheetah_1.jpg",
        "cheetah_2.jpg": "cheetah_2.Jpg",
        "cheetah_3.jpg": "cheetah_1.JPG",
        "cheetah_4.png": "cheetah_1.png",
        "cheetah_5.webp": "cheetah_2.WEBP",
    }


def test_every_class_counts_for_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cheetah = fill(tmp_path, "b.jpg", "cheetah_1.jpg")
    lion = fill(tmp_path, "b.jpg", folder="animal/lion")
    odd = fill(tmp_path, "b.jpg", "v1.0 (x+)_7.jpg", folder="object/v1.0 (x+)")
    change(tmp_path)
    assert capsys.readouterr().out == "3 renamed, 2 already right, 0 other files left alone\n"
    assert contents(cheetah) == {"cheetah_1.jpg": "cheetah_1.jpg", "cheetah_2.jpg": "b.jpg"}
    assert contents(lion) == {"lion_1.jpg": "b.jpg"}
    assert contents(odd) == {"v1.0 (x+)_1.jpg": "b.jpg", "v1.0 (x+)_7.jpg": "v1.0 (x+)_7.jpg"}
    change(tmp_path)
    assert capsys.readouterr().out == "0 renamed, 5 already right, 0 other files left alone\n"


def test_what_is_no_image_stays_and_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path, "a.jpg", "b.jpg", "notes.txt", "noext", "._a.jpg")
    (folder / "cheetah_1.jpg").mkdir()
    (folder / "cheetah_2.png").symlink_to("nowhere")
    change(tmp_path)
    out = capsys.readouterr().out
    assert contents(folder) == {
        "cheetah_3.jpg": "a.jpg",
        "cheetah_4.jpg": "b.jpg",
        "notes.txt": "notes.txt",
        "noext": "noext",
        "._a.jpg": "._a.jpg",
    }
    assert (folder / "cheetah_1.jpg").is_dir()
    assert (folder / "cheetah_2.png").is_symlink()
    for name in ("notes.txt", "noext", "._a.jpg", "cheetah_1.jpg", "cheetah_2.png"):
        assert f"left alone, not an image: {str(folder / name)!r}" in out
    assert out.endswith("2 renamed, 0 already right, 5 other files left alone\n")


def test_links_to_images_are_renamed_as_links(tmp_path: Path) -> None:
    (tmp_path / "store.jpg").write_text("content")
    folder = fill(tmp_path / "images")
    (folder / "a.jpg").symlink_to("../../../store.jpg")
    change(tmp_path / "images")
    assert (folder / "cheetah_1.jpg").is_symlink()
    assert contents(folder) == {"cheetah_1.jpg": "content"}


def test_names_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path, os.fsdecode(b"\xff.jpg"), os.fsdecode(b"\xfe.txt"), "²3.jpg", "a\nb.jpg")
    change(tmp_path, "--dry-run")
    assert len(capsys.readouterr().out.encode().splitlines()) == 5
    change(tmp_path)
    assert sorted(p.name for p in folder.glob("*.jpg")) == ["cheetah_1.jpg", "cheetah_2.jpg", "cheetah_3.jpg"]


def test_dry_run_prints_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path, "b.JPG", "cheetah_2.jpg", "c.png")
    before = contents(folder)
    change(tmp_path, "--dry-run")
    assert contents(folder) == before
    assert capsys.readouterr().out.splitlines() == [
        f"{str(folder / 'b.JPG')!r} -> 'cheetah_1.jpg'",
        f"{str(folder / 'c.png')!r} -> 'cheetah_3.png'",
        "2 to rename, 1 already right, 0 other files left alone",
    ]


def test_a_rename_never_overwrites(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a.jpg", "cheetah_1.jpg")
    with pytest.raises(DataError, match=r"a\.jpg cannot become cheetah_1\.jpg"):
        name_changer.rename(folder / "a.jpg", folder / "cheetah_1.jpg")
    assert contents(folder) == {"a.jpg": "a.jpg", "cheetah_1.jpg": "cheetah_1.jpg"}


def test_too_long_a_name_is_a_clear_error(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a.jpg", folder="animal/" + "x" * 254)
    with pytest.raises(DataError, match="File name too long"):
        change(tmp_path)
    assert contents(folder) == {"a.jpg": "a.jpg"}


def test_wrong_layouts_change_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        change(tmp_path / "missing")
    with pytest.raises(DataError, match="no images in"):
        change(tmp_path)
    fill(tmp_path, "a.jpg")
    group = fill(tmp_path, "b.jpg", folder="zebra")
    with pytest.raises(DataError, match=r"zebra holds images itself; they belong one level down"):
        change(tmp_path)
    assert contents(group) == {"b.jpg": "b.jpg"}
    assert contents(tmp_path / "animal/cheetah") == {"a.jpg": "a.jpg"}


STEMS = st.one_of(
    st.builds("cheetah_{}".format, st.integers(0, 12)),
    st.builds("cheetah_0{}".format, st.integers(0, 3)),
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8),
)
ENDINGS = st.sampled_from([".jpg", ".JPG", ".jpeg", ".png", ".Png", ".webp", ".txt", ""])


@settings(deadline=None, max_examples=150)
@given(st.sets(st.builds(str.__add__, STEMS, ENDINGS).filter(lambda name: name not in (".", "..")), max_size=12))
@example({"cheetah_1.JPG", "cheetah_1.jpg", "cheetah_2.jpg", "1.jpg"})
@example({"cheetah_2.png", "cheetah_2.jpg", "cheetah_02.jpg", "cheetah_0.jpg"})
def test_any_set_of_names(names: set[str]) -> None:
    images = {n for n in names if not n.startswith(".") and Path(n).suffix.lower() in SUFFIXES}
    with tempfile.TemporaryDirectory() as data_dir:
        fill(Path(data_dir), "cheetah_1.jpg", folder="animal/other")  # so that there is always an image
        folder = fill(Path(data_dir), *names)
        change(Path(data_dir))
        after = contents(folder)
        assert sorted(after.values()) == sorted(names)
        numbers = set()
        for name, first_name in after.items():
            if first_name not in images:
                assert name == first_name
                continue
            suffix = Path(first_name).suffix.lower()
            number = int(name.removeprefix("cheetah_").removesuffix(suffix))
            assert name == f"cheetah_{number}{suffix}"
            numbers.add(number)
        assert len(numbers) == len(images)
        assert 0 not in numbers
        for number in numbers:  # whoever had a number alone still has it
            holders = [n for n in images if Path(n).stem == f"cheetah_{number}"]
            if holders:
                assert any(after.get(f"cheetah_{number}{Path(n).suffix.lower()}") == n for n in holders)
        change(Path(data_dir))
        assert contents(folder) == after


NAMES = ("b10.png", "b2.JPG", "a.jpg", "cheetah_2.jpg", "cheetah_3.JPG", "notes.txt")


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed run makes of NAMES."""
    data_dir = tmp_path_factory.mktemp("undisturbed")
    folder = fill(data_dir, *NAMES)
    change(data_dir)
    assert len(contents(folder)) == len(NAMES)
    return contents(folder)


@pytest.mark.parametrize("changes", range(8))  # four renames, each a link and an unlink
def test_killed_anywhere_and_run_again(tmp_path: Path, finished: dict[str, str], changes: int) -> None:
    folder = fill(tmp_path, *NAMES)
    command = [sys.executable, "-c", KILLED, str(changes), str(tmp_path)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    between = contents(folder)
    assert set(between.values()) == set(NAMES)
    assert len(between) == len(NAMES) + changes % 2  # between link and unlink a file has two names
    change(tmp_path)
    assert contents(folder) == finished


def test_the_eighth_change_is_the_last(tmp_path: Path, finished: dict[str, str]) -> None:
    """So that the test above covers every point, and its hook is known to count."""
    folder = fill(tmp_path, *NAMES)
    command = [sys.executable, "-c", KILLED, "8", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert contents(folder) == finished


def test_hard_links_are_one_image(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a.jpg", "cheetah_7.jpg")
    for name, first in (("b.jpg", "a.jpg"), ("z.png", "cheetah_7.jpg")):
        (folder / name).hardlink_to(folder / first)
    change(tmp_path)
    assert contents(folder) == {"cheetah_1.jpg": "a.jpg", "cheetah_7.jpg": "cheetah_7.jpg"}


def test_as_a_script(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a.jpg")
    command = [sys.executable, "training/name_changer.py", "--data_dir"]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1 renamed, 0 already right, 0 other files left alone\n"
    assert contents(folder) == {"cheetah_1.jpg": "a.jpg"}
    missing = str(tmp_path / "missing")
    wrong = subprocess.run([*command, missing], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr == f"error: {missing} is not a folder; expected {missing}/<group>/<class>/*.jpg|png\n"
