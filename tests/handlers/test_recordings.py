"""Movements cut out of recorders' files, whatever is in them."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.points import MAX_DURATION, MAX_POSITION
from handlers.recordings import MIN_PATH, REST, RecordingError, read_recording
from handlers.trajectory import MAX_POINTS, MIN_POINTS, POINTERS
from tests.paths import SHARED_DATA

MOUSE = SHARED_DATA / "mouse.tar.gz"
SESSION = "client timestamp,button,state,x,y"
STROKE = "resolution:1000,500"
PATIENT = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=200
)


def write(folder: Path, head: str, *parts: Sequence[str]) -> Path:
    path = folder / "recording.csv"
    path.write_text("\n".join([head, *(line for part in parts for line in part)]) + "\n")
    return path


def moves(
    kind: str = "NoButton,Move", start: float = 0, count: int = 12, gap: float = 10, step: float = 20
) -> list[str]:
    """Rows of a session, to the right; `kind` is button and state."""
    return [f"{start + i * gap},{kind},{100 + i * step},50" for i in range(count)]


def drag(start: float = 0, button: str = "Left") -> list[str]:
    last = start + 120
    return [
        f"{start},{button},Pressed,100,50",
        *moves(f"{button},Drag", start),
        f"{last},{button},Released,400,50",
    ]


def stroke(start: float = 0, release: str = "Released", touch: str = "", scale: float = 1) -> list[str]:
    rows = [f"{start + i * 8},{'Move' if i else 'Pressed'}{touch},{i * 30 * scale},{i * 15 * scale}" for i in range(10)]
    return [*rows, f"{start + 80},{release}{touch},0,0"]


def test_the_drags_of_a_session(tmp_path: Path) -> None:
    path = write(tmp_path, SESSION, moves(), drag(1000), moves(start=2000), drag(3000, "Right"), drag(4000))
    first, second = read_recording(path)
    assert (len(first.t), first.t[0], first.t[-1], first.pointer) == (14, 1000, 1120, "mouse")
    assert (first.x[0], first.x[-1], first.y[0]) == (100, 400, 50)  # the release is where the finger lifts
    assert second.t[0] == 4000
    assert first.x.dtype == np.float64


def test_the_moves_between_the_drags(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        SESSION,
        moves(start=0),
        moves(start=110 + REST + 1),  # after a rest
        drag(1000),
        moves(start=2000),
        drag(2120, "Right"),
        moves(start=3000, gap=REST),  # slow, without a rest
    )
    found = read_recording(path, free=True)
    assert [one.t[0] for one in found] == [0, 110 + REST + 1, 1000, 2000, 3000]
    assert [len(one.t) for one in found] == [12, 12, 14, 12, 12]


def test_a_drag_that_is_never_released_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, SESSION, drag()[:-1], drag(1000), moves("Left,Drag", start=2000), drag(3000)[:-1])
    assert [one.t[0] for one in read_recording(path)] == [1000]


@pytest.mark.parametrize("release", ["Released", "1080", "864"])
def test_strokes(release: str, tmp_path: Path) -> None:
    """Some recorders write a number in place of the release; none of them counts as a point."""
    path = write(tmp_path, STROKE, stroke(release=release), stroke(500, release), stroke(900)[:-1])
    found = read_recording(path)
    assert [(len(one.t), one.t[0], one.t[-1]) for one in found] == [(10, 0, 72), (10, 500, 572), (10, 900, 972)]
    np.testing.assert_array_equal(found[0].x, np.arange(10) * 30)
    np.testing.assert_array_equal(found[0].y, np.arange(10) * 15)


def test_shares_of_the_screen_become_pixels(tmp_path: Path) -> None:
    (found,) = read_recording(write(tmp_path, "resolution: 1000 , 500", stroke(scale=1 / 300)))
    np.testing.assert_allclose(found.x, np.arange(10) * 100)
    np.testing.assert_allclose(found.y, np.arange(10) * 25)


@pytest.mark.parametrize(("touch", "pointer"), [("", "mouse"), ("Touch", "touch")])
def test_the_pointer(touch: str, pointer: str, tmp_path: Path) -> None:
    (found,) = read_recording(write(tmp_path, STROKE, stroke(touch=touch)))
    assert found.pointer == pointer


@pytest.mark.parametrize(
    "rows",
    [
        [],
        stroke()[: MIN_POINTS - 1],
        stroke(scale=0.2 / 3),  # 10 px a step, and less than MIN_PATH
        [row.replace("120,60", "nan,nan").replace("120.0,60.0", "nan,nan") for row in stroke(scale=1.0)],
        [row.replace(",120,60", ",inf,60") for row in stroke()],
        [row.replace(",120,60", f",{MAX_POSITION + 1},60") for row in stroke()],
        [row.replace(",120,60", ",1e308,-1e308") for row in stroke()],
        [row.replace("32,Move", "16,Move") for row in stroke()],  # the clock goes back
        [row.replace("0,Pressed", f"-{MAX_DURATION},Pressed") for row in stroke()],
        [row.replace("0,Pressed", "-1.7e308,Pressed") for row in stroke()],
        [row.replace("0,Pressed", "inf,Pressed") for row in stroke()],
    ],
)
def test_what_is_no_movement_is_left_out(rows: list[str], tmp_path: Path) -> None:
    """And leaves those beside it alone."""
    found = read_recording(write(tmp_path, STROKE, rows, stroke(5000)))
    assert [one.t[0] for one in found] == [5000]


def test_the_limits_belong_to_it(tmp_path: Path) -> None:
    step = MIN_PATH / (MIN_POINTS - 1)
    short = [f"{i},{'Move' if i else 'Pressed'},{i * step!r},0" for i in range(MIN_POINTS)]
    longest = [f"{i},{'Move' if i else 'Pressed'},{i % 2 * 5},0" for i in range(MAX_POINTS)]
    too_long = [*longest, f"{MAX_POINTS},Move,0,0"]
    for rows, count in ((short, 1), (longest, 1), (too_long, 0)):
        assert len(read_recording(write(tmp_path, STROKE, rows))) == count


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts neither with"),
        (b"x,y\n1,2\n", "starts neither with 'client timestamp,button,state,x,y' nor with 'resolution:WIDTH,HEIGHT'"),
        (b"resolution:wide,high\n", "starts neither with"),
        (b"\xff\xfe\x00", "cannot be read: 'utf-8' codec"),
        (SESSION.encode() + b"\n1,Left,Pressed,2\n", "a line that does not belong there: not enough values"),
        (SESSION.encode() + b"\n1,Left,Pressed,2,3,4\n", "a line that does not belong there: too many values"),
        (SESSION.encode() + b"\nnow,Left,Pressed,2,3\n", "could not convert string to float: 'now'"),
        (STROKE.encode() + b"\n1,Pressed,2\n", "not enough values"),
        (STROKE.encode() + b"\n1,Pressed,2,\n", "could not convert string to float"),
        (STROKE.encode() + b"\n\n", "not enough values"),
        (STROKE.encode() + b'\n1,Pressed,"2,3\n', "not enough values"),
        (STROKE.encode() + b"\n" + b"1" * 200_000, "field larger than field limit"),
        (b"resolution:1" + b"0" * 400 + b",1\n1,Pressed,1,1\n", "int too large to convert to float"),
        (b"resolution:1" + b"0" * 5000 + b",1\n1,Pressed,1,1\n", "Exceeds the limit"),
    ],
)
def test_what_is_no_recording(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recording.txt"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as raised:
        read_recording(path)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.csv"):
        with pytest.raises(RecordingError, match="cannot be read"):
            read_recording(path)


CELLS = st.one_of(
    st.sampled_from(["Left", "NoButton", "Pressed", "Move", "Drag", "Released", "PressedTouch", "MoveTouch", "1080"]),
    st.floats().map(repr),
    st.integers(0, 2000).map(str),
    st.text(max_size=4),
)
ROWS = st.lists(st.lists(CELLS, min_size=4, max_size=5).map(",".join) | st.text(max_size=20), max_size=30)
GOOD = st.sampled_from([*stroke(), *stroke(400, touch="Touch"), *drag(), *moves(start=300)])


@PATIENT
@given(st.sampled_from([SESSION, STROKE, "resolution:1,99999", ""]) | st.text(), ROWS | st.lists(GOOD), st.booleans())
def test_any_text_gives_movements_or_says_why_not(tmp_path: Path, head: str, rows: list[str], free: bool) -> None:
    path = tmp_path / "recording.txt"
    path.write_text("\n".join([head, *rows]), "utf-8", "replace")
    try:
        found = read_recording(path, free)
    except RecordingError:
        return
    for one in found:
        assert MIN_POINTS <= len(one.t) == len(one.x) == len(one.y) <= MAX_POINTS
        assert np.isfinite((one.x, one.y, one.t)).all()
        assert (np.diff(one.t) >= 0).all()
        assert one.pointer in POINTERS


@pytest.mark.skipif(not MOUSE.exists(), reason="needs shared/data/mouse.tar.gz")
def test_recordings_of_every_device(tmp_path: Path) -> None:
    wanted = ("strokes/human_fast/", "strokes/human_tel/", "strokes/bot_gan/GAN18_1", "sessions/user1/")
    with tarfile.open(MOUSE) as file:
        chosen = [entry for entry in file if entry.name.startswith(wanted)]
        file.extractall(tmp_path, chosen, filter="data")
    found: dict[str, list[int]] = {place: [] for place in wanted}
    for entry in chosen:
        if not entry.isfile():
            continue
        for one in read_recording(tmp_path / entry.name):
            found[next(place for place in wanted if entry.name.startswith(place))].append(len(one.t))
            assert (one.pointer == "touch") == ("_tel" in entry.name)
    assert all(found.values())
