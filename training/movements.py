"""Recorded movements of people and of bots, and who made them.

    sessions/<person>/*.csv                     people's mouse sessions: their drags (and, where wanted, their moves)
    strokes/human_<device>/, strokes/bot_<family>/   single strokes

A bot's family is what its folder says behind `bot_`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from handlers.recordings import SUFFIXES, RecordingError, read_recording
from handlers.trajectory import MIN_POINTS, Trajectory
from training.cli import DataError

HUMAN = "human"
_HALVED = 2 * MIN_POINTS + 4  # points from which on a movement may lose every second one


@dataclass(frozen=True, slots=True)
class Recording:
    """One file."""

    path: Path
    family: str  # HUMAN, or a bot's
    source: str  # the person, or the folder of strokes, that it is of
    movements: tuple[Trajectory, ...]
    in_session: bool


def scan(data_dir: Path, free: bool = False) -> tuple[list[Recording], list[str]]:
    """Every recording with a movement in it, sorted, and what could not be read. Raises DataError.

    `free` adds the movements between the drags.
    """
    found, problems = [], []
    places = list(_places(data_dir))
    for path, family, source, in_session in tqdm(places, "reading", unit="file", leave=False, disable=None):
        try:
            movements = read_recording(path, free)
        except RecordingError as error:
            problems.append(f"{path}: {error}")
            continue
        if movements:
            found.append(Recording(path, family, source, tuple(movements), in_session))
    if not any(recording.family == HUMAN for recording in found):
        raise DataError(f"{data_dir} holds no movements of people in sessions/<person>/*.csv or strokes/human_*/*.txt")
    return found, problems


def _places(data_dir: Path) -> Iterator[tuple[Path, str, str, bool]]:
    if not data_dir.is_dir():
        raise DataError(f"{data_dir} is not a folder; expected sessions/<person>/*.csv and strokes/<kind>/*.txt in it")
    for folder in sorted(path for path in data_dir.glob("sessions/*") if path.is_dir()):
        person = folder.name.partition(".")[0]  # user62.1 and user62.2 are one
        yield from ((path, HUMAN, person, True) for path in _files(folder))
    for folder in sorted(path for path in data_dir.glob("strokes/*") if path.is_dir()):
        kind, _, name = folder.name.partition("_")
        if kind not in (HUMAN, "bot") or not name:
            raise DataError(f"{folder}: a folder of strokes is named human_<device> or bot_<family>")
        yield from ((path, HUMAN if kind == HUMAN else name, folder.name, False) for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and not path.name.startswith("."))


def hold_out(recordings: Sequence[Recording], share: float, seed: int) -> tuple[list[Recording], list[Recording]]:
    """To train on, and to test on: whole people of the sessions, single files of the strokes. Raises DataError."""
    random = np.random.default_rng(seed)
    people = sorted({recording.source for recording in recordings if recording.in_session})
    chosen = set(random.permutation(people)[: round(share * len(people))])
    strokes: dict[str, list[Recording]] = {}
    for recording in recordings:
        if not recording.in_session:
            strokes.setdefault(recording.source, []).append(recording)
    apart = set()
    for of in strokes.values():
        apart |= {of[index].path for index in random.permutation(len(of))[: round(share * len(of))]}
    train: list[Recording] = []
    test: list[Recording] = []
    for recording in recordings:
        (test if recording.source in chosen or recording.path in apart else train).append(recording)
    for part, what in ((train, "to train on"), (test, "to test on")):
        if not any(recording.family == HUMAN for recording in part):
            raise DataError(f"with a share of {share:g} for the test no people are left {what}")
    return train, test


def varied(movement: Trajectory, random: np.random.Generator) -> Trajectory:
    """The same hand on another screen, at another angle, before a mouse that reports half as often."""
    size, angle, mirror = np.exp(random.uniform(-0.7, 0.7)), random.uniform(-0.3, 0.3), random.choice((-1, 1))
    x, y, t = movement.x - movement.x[0], movement.y - movement.y[0], movement.t
    x, y = size * mirror * (x * np.cos(angle) - y * np.sin(angle)), size * (x * np.sin(angle) + y * np.cos(angle))
    if len(t) >= _HALVED and random.random() < 0.3:
        kept = np.unique(np.append(np.arange(0, len(t), 2), len(t) - 1))
        x, y, t = x[kept], y[kept], t[kept]
    return Trajectory(x.round(), y.round(), t, movement.pointer)


def fingerprint(recordings: Sequence[Recording]) -> str:
    """SHA-256 over the names and contents of the files."""
    digest = hashlib.sha256()
    for recording in recordings:
        digest.update("/".join(recording.path.parts[-3:]).encode() + b"\0")
        digest.update(hashlib.sha256(recording.path.read_bytes()).digest())
    return digest.hexdigest()


def write_stroke(path: Path, movement: Trajectory) -> None:
    """In the format of the strokes, to be read again by `read_recording` as the same numbers."""
    touch = "Touch" if movement.pointer == "touch" else ""
    states = [f"Pressed{touch}", *[f"Move{touch}"] * (len(movement.t) - 1)]
    rows = zip(movement.t.tolist(), states, movement.x.tolist(), movement.y.tolist(), strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["resolution:1920,1080", *(f"{t!r},{s},{x!r},{y!r}" for t, s, x, y in rows)]) + "\n")
