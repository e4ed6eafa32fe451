"""Who made a movement, and that nobody is in both parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handlers.recordings import read_recording
from handlers.trajectory import MIN_POINTS, Trajectory
from training.cli import DataError
from training.movements import HUMAN, Recording, fingerprint, hold_out, scan, varied, write_stroke

SESSION = "client timestamp,button,state,x,y"


def moved(seed: int = 0, points: int = 30, pointer: str = "mouse") -> Trajectory:
    random = np.random.default_rng(seed)
    x, y = random.normal(5, 9, (2, points)).cumsum(axis=1)
    return Trajectory(x, y, 1.7e12 + random.uniform(0, 16, points).cumsum(), pointer)


def write_session(path: Path, seed: int = 0, drags: int = 1) -> Path:
    rows = [SESSION]
    for index in range(drags):
        start = 1000 * (seed + index)
        rows += [f"{start + i},Left,{'Drag' if i else 'Pressed'},{20 * i + seed},{i}" for i in range(12)]
        rows += [f"{start + 12},Left,Released,240,12"]
        rows += [f"{start + 500 + i},NoButton,Move,{20 * i},{seed}" for i in range(12)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten people, one of them in two folders, and strokes of two devices and two programs."""
    folder = tmp_path / "sessions" / "data"  # the name must not matter
    for person in range(1, 10):
        write_session(folder / f"sessions/user{person}/a.csv", person)
        write_session(folder / f"sessions/user{person}/later/b.csv", person, drags=2)
    write_session(folder / "sessions/user62.1/a.csv", 62)
    write_session(folder / "sessions/user62.2/a.csv", 63)
    for place in ("human_pc", "human_phone", "bot_gan", "bot_script"):
        for number in range(10):
            pointer = "touch" if place == "human_phone" else "mouse"
            write_stroke(folder / f"strokes/{place}/{number}.txt", moved(number, pointer=pointer))
    return folder


def test_who_made_what(data: Path) -> None:
    found, problems = scan(data)
    assert problems == []
    assert len(found) == 20 + 40
    kinds = {(one.family, one.source, one.in_session) for one in found}
    people = {(HUMAN, f"user{person}", True) for person in (*range(1, 10), 62)}
    strokes = {(HUMAN, "human_pc", False), (HUMAN, "human_phone", False)}
    assert kinds == people | strokes | {("gan", "bot_gan", False), ("script", "bot_script", False)}
    assert [one.path for one in found] == sorted(one.path for one in found)
    assert sum(len(one.movements) for one in found if one.source == "user3") == 3
    assert {one.movements[0].pointer for one in found if one.source == "human_phone"} == {"touch"}


def test_free_movements_are_wanted_or_not(data: Path) -> None:
    found, _ = scan(data, free=True)
    assert sum(len(one.movements) for one in found if one.source == "user3") == 6


def test_what_is_no_recording_is_named(data: Path) -> None:
    (data / "sessions/user1/broken.csv").write_text("?")
    (data / "sessions/user1/.hidden.csv").write_text("?")
    (data / "sessions/user1/notes.md").write_text("?")
    (data / "strokes/human_pc/click.txt").write_text("resolution:9,9\n1,Pressed,1,1\n")  # no movement, no problem
    found, problems = scan(data)
    assert len(found) == 60
    assert [problem.partition(": ")[0] for problem in problems] == [str(data / "sessions/user1/broken.csv")]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda _: None, "is not a folder; expected sessions/<person>"),
        (lambda folder: folder.mkdir(), "holds no movements of people"),
        (lambda folder: write_stroke(folder / "strokes/bot_gan/1.txt", moved()), "holds no movements of people"),
        (lambda folder: write_stroke(folder / "strokes/robots/1.txt", moved()), "is named human_<device> or bot_<fam"),
        (
            lambda folder: write_stroke(folder / "strokes/bot_/1.txt", moved()),
            "is named human_<device> or bot_<family>",
        ),
    ],
)
def test_a_folder_that_is_no_data(prepare: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    prepare(folder)
    with pytest.raises(DataError, match=message):
        scan(folder)


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_in_both_parts(seed: int, data: Path) -> None:
    recordings, _ = scan(data)
    train, test = hold_out(recordings, 0.3, seed)
    assert sorted([*train, *test], key=lambda one: one.path) == recordings
    people = [{one.source for one in part if one.in_session} for part in (train, test)]
    assert not people[0] & people[1]
    assert (len(people[0]), len(people[1])) == (7, 3)
    for source in ("human_pc", "human_phone", "bot_gan", "bot_script"):
        assert sum(one.source == source for one in test) == 3
    assert hold_out(recordings, 0.3, seed) == (train, test)


def test_the_seed_chooses(data: Path) -> None:
    recordings, _ = scan(data)
    chosen = {tuple(one.path for one in hold_out(recordings, 0.3, seed)[1]) for seed in range(3)}
    assert len(chosen) == 3


@pytest.mark.parametrize(("share", "message"), [(0.0, "no people are left to test on"), (1.0, "left to train on")])
def test_a_part_without_people(share: float, message: str, data: Path) -> None:
    recordings, _ = scan(data)
    with pytest.raises(DataError, match=message):
        hold_out(recordings, share, seed=0)


@pytest.mark.parametrize("pointer", ["mouse", "touch"])
def test_a_stroke_is_read_as_it_was_written(pointer: str, tmp_path: Path) -> None:
    for seed in range(20):
        movement = moved(seed, pointer=pointer)
        write_stroke(tmp_path / "deep/er/1.txt", movement)
        (read,) = read_recording(tmp_path / "deep/er/1.txt")
        for axis in "xyt":
            np.testing.assert_array_equal(getattr(read, axis), getattr(movement, axis))
        assert read.pointer == pointer


def test_a_varied_movement_is_still_one() -> None:
    counts, sizes = set(), []
    for seed in range(60):
        movement = moved(seed, points=30 if seed % 2 else MIN_POINTS, pointer="touch")
        found = varied(movement, np.random.default_rng(seed))
        assert len(found.x) == len(found.y) == len(found.t) >= MIN_POINTS
        assert (found.x[0], found.y[0], found.pointer) == (0, 0, "touch")
        assert (found.t[0], found.t[-1]) == (movement.t[0], movement.t[-1])
        assert (found.x == found.x.round()).all()
        counts.add((len(movement.t), len(found.t)))
        ends = [np.hypot(one.x[-1] - one.x[0], one.y[-1] - one.y[0]) for one in (found, movement)]
        sizes.append(ends[0] / ends[1])
    assert counts == {(30, 30), (30, 16), (MIN_POINTS, MIN_POINTS)}
    assert 0.4 < min(sizes) < 0.7
    assert 1.5 < max(sizes) < 2.2


def test_the_fingerprint_is_of_names_and_contents(data: Path) -> None:
    recordings, _ = scan(data)
    first = fingerprint(recordings)
    assert fingerprint(scan(data)[0]) == first
    assert fingerprint(recordings[:-1]) != first
    renamed = recordings[0].path.with_name("c.csv")
    recordings[0].path.rename(renamed)
    changed, _ = scan(data)
    assert {fingerprint(changed), fingerprint(changed[1:])} & {first} == set()
    assert isinstance(changed[0], Recording)
