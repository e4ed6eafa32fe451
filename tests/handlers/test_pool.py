"""Draws: different images, none soon again, all of them in the end; and what is no pool."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import InvalidContentError, SpecError
from handlers.pool import INDEX, Pool
from tests.handlers.pools import write_index, write_pool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pool(tmp_path / "pool", {"red": 9, "blue": 4})


def test_what_a_pool_holds(folder: Path) -> None:
    pool = Pool(folder)
    assert pool.counts == {"blue": 4, "red": 9}
    assert pool.attribution == "Drawn here."
    (image,) = pool.draw("blue", 1)
    assert image.group == "blue"
    assert image.read().startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("count", range(1, 10))
def test_a_draw_has_no_image_twice(folder: Path, count: int) -> None:
    pool = Pool(folder)
    for _ in range(20):
        drawn = pool.draw("red", count)
        assert len(set(drawn)) == len(drawn) == count
        assert {image.group for image in drawn} == {"red"}


def test_an_image_does_not_come_back_soon(folder: Path) -> None:
    pool = Pool(folder)
    drawn = [pool.draw("red", 1)[0] for _ in range(200)]
    for start in range(len(drawn) - 5):  # half of nine are barred, so any five in a row differ
        assert len(set(drawn[start : start + 5])) == 5
    assert len(set(drawn)) == 9


def test_groups_do_not_bar_each_other(folder: Path) -> None:
    pool = Pool(folder)
    assert len({*pool.draw("red", 4), *pool.draw("blue", 2), *pool.draw("red", 5), *pool.draw("blue", 2)}) == 13


def test_threads_draw_side_by_side(folder: Path) -> None:
    pool, patience = Pool(folder), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            drawn = list(threads.map(pool.draw, ["red"] * 1000, [1] * 1000))
    finally:
        sys.setswitchinterval(patience)
    assert [len(images) for images in drawn] == [1] * 1000


def test_draws_cannot_be_foretold(folder: Path) -> None:
    orders = {tuple(image.path.name for image in Pool(folder).draw("red", 9)) for _ in range(20)}
    assert len(orders) > 15


def test_more_than_the_group_has(folder: Path) -> None:
    pool = Pool(folder)
    with pytest.raises(InvalidContentError, match="only 4 images in 'blue', 5 were asked for"):
        pool.draw("blue", 5)
    assert len(pool.draw("blue", 4)) == 4


def test_a_group_is_as_likely_as_its_share(folder: Path) -> None:
    pool = Pool(folder)
    counts = Counter(pool.any_group() for _ in range(2000))
    assert 0.6 < counts["red"] / 2000 < 0.78  # 9 of 13; eight standard deviations to each side


@pytest.mark.parametrize("group", ["green", "", None, 5, ["red"], {"a": 1}, "RED"])
def test_unknown_groups(folder: Path, group: object) -> None:
    pool = Pool(folder)
    assert pool.check_group("red") == "red"
    with pytest.raises(InvalidContentError, match="'group' must be one of blue, red"):
        pool.check_group(group)


def test_no_index(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SpecError, match=rf"no {INDEX}; make one with"):
            Pool(folder)


IMAGE: dict[str, Any] = {"file": "secretname-red-0.jpg", "group": "red"}


ENTRIES: list[Any] = [None, 5, "text", [], {}, {"file": "x"}, {"group": "red"}, IMAGE | {"file": 5}]
INDEXES: list[Any] = [[], None, "text", 5, {}, {"images": None}, {"images": 5}, {"images": "text"}, {"images": IMAGE}]


@pytest.mark.parametrize("index", [*INDEXES, *({"images": [entry]} for entry in ENTRIES)])
def test_a_corrupt_index(folder: Path, index: Any) -> None:
    write_index(folder, index)
    with pytest.raises(SpecError, match="not a pool's index"):
        Pool(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"\0"])
def test_an_index_that_is_no_json(folder: Path, content: bytes) -> None:
    (folder / INDEX).write_bytes(content)
    with pytest.raises(SpecError, match="not a pool's index"):
        Pool(folder)


@pytest.mark.parametrize(
    "file",
    ["../x.jpg", "{absolute}", "sub/x.jpg", "sub/../secretname-red-1.jpg", "missing.jpg", "", ".", "..", "sub", "a\0b"],
)
def test_only_files_beside_the_index(folder: Path, file: str) -> None:
    (folder / "sub").mkdir()
    for outside in (folder.parent / "x.jpg", folder / "sub/x.jpg"):
        outside.write_bytes(b"x")
    entry = {"file": file.format(absolute=folder.parent / "x.jpg"), "group": "red"}
    write_index(folder, {"images": [IMAGE, entry]})
    with pytest.raises(SpecError, match="not a file beside it"):
        Pool(folder)


@pytest.mark.parametrize("group", [None, 5, ["red"], {"a": 1}])
def test_groups_are_text(folder: Path, group: object) -> None:
    write_index(folder, {"images": [IMAGE | {"group": group}]})
    with pytest.raises(SpecError):
        Pool(folder)


def test_a_file_stands_once_in_the_index(folder: Path) -> None:
    write_index(folder, {"images": [IMAGE, IMAGE | {"group": "blue"}]})
    with pytest.raises(SpecError, match=r"names secretname-red-0\.jpg more than once"):
        Pool(folder)


@pytest.mark.parametrize("counts", [{}, {"red": 5}, {"red": 5, "blue": 1}])
def test_too_little_for_a_pool(tmp_path: Path, counts: dict[str, int]) -> None:
    with pytest.raises(SpecError, match="two groups of two images at least"):
        Pool(write_pool(tmp_path / "small", counts))
