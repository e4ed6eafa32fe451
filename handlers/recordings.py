"""Recorded files -> movements of a pointer. Not for serving: training and `marserve evaluate` must cut the same
movements out of the same file, and this is the one place that both may import.

Two formats are known by their first line: mouse sessions (SapiMouse, CSV) and single strokes (DELBOT-Mouse, text).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from handlers.points import MAX_DURATION, MAX_POSITION
from handlers.trajectory import MAX_POINTS, MIN_POINTS, Trajectory

MIN_PATH = 80.0  # px: shorter ones are clicks of a moving hand
REST = 500.0  # ms without a report end a free movement
SUFFIXES = (".csv", ".txt")

_SESSION = ["client timestamp", "button", "state", "x", "y"]
_STROKE = re.compile(r"resolution:\s*(\d+)\s*,\s*(\d+)")
_PRESSES, _MOVES, _TOUCH = ("Pressed", "PressedTouch"), ("Move", "MoveTouch"), "PressedTouch"

_Row = tuple[float, float, float]  # ms, px, px


class RecordingError(Exception):
    """The file is no recording that is known here. The message says why."""


def read_recording(path: Path, free: bool = False) -> list[Trajectory]:
    """The movements of at least MIN_POINTS points and MIN_PATH px in a file, in order; too long ones are left out.

    Of a session these are the drags with the left button, Press to Release, and with `free` also the movements between
    them, ended by any button or by REST without a report; of a stroke file every stroke, without its release, which
    the recorders note in several ways. Raises RecordingError.
    """
    try:
        lines = path.read_text("utf-8", "strict").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"cannot be read: {error}") from None
    head = lines[0].strip() if lines else ""
    try:
        if head.split(",") == _SESSION:
            found = _session(csv.reader(lines[1:]), free)
        elif screen := _STROKE.fullmatch(head):
            found = _strokes(csv.reader(lines[1:]), int(screen[1]), int(screen[2]))
        else:
            raise RecordingError(f"starts neither with {','.join(_SESSION)!r} nor with 'resolution:WIDTH,HEIGHT'")
        pointer = "touch" if any(_TOUCH in line for line in lines) else "mouse"
        return [one for rows in found if (one := _trajectory(rows, pointer)) is not None]
    except (ValueError, OverflowError, csv.Error) as error:
        raise RecordingError(f"has a line that does not belong there: {error}") from None


def _session(rows: Iterable[Sequence[str]], free: bool) -> Iterator[list[_Row]]:
    drag: list[_Row] | None = None
    move: list[_Row] = []
    for time, button, state, x, y in rows:
        point = (float(time), float(x), float(y))
        if state == "Move" and button == "NoButton":
            if move and point[0] - move[-1][0] > REST:
                yield move if free else []
                move = []
            move.append(point)
            continue
        yield move if free else []
        move = []
        if button != "Left":
            continue
        if state == "Pressed":
            drag = [point]
        elif drag is not None:
            drag.append(point)
            if state == "Released":
                yield drag
                drag = None
    yield move if free else []


def _strokes(rows: Iterable[Sequence[str]], width: int, height: int) -> Iterator[list[_Row]]:
    stroke: list[_Row] | None = None
    for time, state, x, y in rows:
        if state in _PRESSES:
            stroke = []
        if stroke is not None and state in (*_PRESSES, *_MOVES):
            stroke.append((float(time), float(x), float(y)))
        elif stroke is not None:
            yield _in_pixels(stroke, width, height)
            stroke = None
    yield _in_pixels(stroke or [], width, height)


def _in_pixels(stroke: list[_Row], width: int, height: int) -> list[_Row]:
    """Some recorders note shares of the screen."""
    if all(abs(x) <= 1 and abs(y) <= 1 for _, x, y in stroke):
        return [(time, x * width, y * height) for time, x, y in stroke]
    return stroke


def _trajectory(rows: list[_Row], pointer: str) -> Trajectory | None:
    """None for what is no movement, or none that a worker takes: too few points, too short or too large, a clock that
    went back.
    """
    if not MIN_POINTS <= len(rows) <= MAX_POINTS:
        return None
    t, x, y = np.array(rows, np.float64).T
    with np.errstate(over="ignore", invalid="ignore"):
        if not (np.abs((x, y)).max() <= MAX_POSITION and np.abs(t - t[0]).max() <= MAX_DURATION):  # nor NaN
            return None
    if (np.diff(t) < 0).any() or np.hypot(np.diff(x), np.diff(y)).sum() < MIN_PATH:
        return None
    return Trajectory(x, y, t, pointer)
