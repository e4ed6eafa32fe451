"""Challenges: as many images as asked for, of two groups, with nothing in them that gives the answer away."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from handlers.disguise import SIDE
from handlers.errors import InvalidContentError, SpecError
from handlers.pool import Pool
from handlers.spec import HandlerSpec, NetworkSpec
from handlers.tasks import Task, build_task
from tests.handlers.pools import write_pool

SPEC = HandlerSpec("random_images")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return Pool(write_pool(tmp_path_factory.mktemp("pool"), {"red": 24, "green": 23, "blue": 22}))


@pytest.fixture(scope="module")
def task(pool: Pool) -> Task:
    return build_task(SPEC, pool)


def ask(task: Task, **fields: Any) -> dict[str, Any]:
    return task.encode(task.decode({"kind": "drag_drop", **fields}), {})


@pytest.mark.parametrize("count", [4, 5, 6, 12, 24])
def test_two_sides_of_two_at_least(task: Task, count: int) -> None:
    sizes = set()
    for _ in range(12):
        reply = ask(task, count=count)
        sides = Counter(image["group"] for image in reply["images"])
        assert len(reply["images"]) == count
        assert reply["groups"] == sorted(sides)
        assert len(sides) == 2
        assert min(sides.values()) >= 2
        sizes.add(min(sides.values()))
    assert len(sizes) > 1 or count < 12  # nobody can count on a half


def test_the_reply(task: Task) -> None:
    reply = ask(task)
    assert set(reply) == {"kind", "images", "groups", "pool"}
    assert reply["kind"] == "drag_drop"
    assert len(reply["images"]) == 6
    assert reply["pool"] == {"size": 69, "groups": {"blue": 22, "green": 23, "red": 24}}
    assert all(set(image) == {"id", "data", "group"} for image in reply["images"])
    json.dumps(reply, allow_nan=False)


def test_a_group_asked_for_is_one_side(task: Task) -> None:
    others = set()
    for _ in range(20):
        groups = ask(task, group="red", count=4)["groups"]
        assert "red" in groups
        others.update(groups)
    assert others == {"red", "green", "blue"}


def test_the_sides_are_mixed(task: Task) -> None:
    """Sorted by side, an image's place would be its answer: by chance that happens once in 10 times with 3 and 3."""
    replies = [[image["group"] for image in ask(task, count=12)["images"]] for _ in range(30)]
    changes = [sum(a != b for a, b in pairwise(groups)) for groups in replies]
    assert sum(number > 1 for number in changes) > 20


def test_nothing_of_the_source_is_sent(task: Task, pool: Pool) -> None:
    stored = {path.read_bytes() for path in pool.draw("red", 1)[0].path.parent.glob("*.jpg")}
    assert all(b"secretcomment" in data for data in stored)
    ids, pictures = set(), set()
    for _ in range(5):
        reply = ask(task, count=24)
        assert "secret" not in json.dumps(reply)
        for image in reply["images"]:
            data = base64.b64decode(image["data"], validate=True)
            with Image.open(io.BytesIO(data)) as opened:
                assert (opened.format, opened.size) == ("JPEG", (SIDE, SIDE))
                assert not opened.getexif()
            assert b"secret" not in data
            ids.add(image["id"])
            pictures.add(data)
    assert len(ids) == len(pictures) == 5 * 24
    assert not pictures & stored


@pytest.mark.parametrize("count", [0, 3, 25, -4, 10**30, True, False, None, 6.0, "6", [6], float("nan")])
def test_wrong_counts(task: Task, count: object) -> None:
    with pytest.raises(InvalidContentError, match="'count' must be a whole number from 4 to 24"):
        ask(task, count=count)


@pytest.mark.parametrize("kind", [None, "", "click", "DRAG_DROP", 5, True, ["drag_drop"], {"a": 1}])
def test_wrong_kinds(task: Task, kind: object) -> None:
    with pytest.raises(InvalidContentError, match="'kind' must be one of drag_drop"):
        task.decode({"kind": kind})


def test_other_wrong_requests(task: Task) -> None:
    with pytest.raises(InvalidContentError, match="'kind'"):
        task.decode({})
    with pytest.raises(InvalidContentError, match="expected JSON"):
        task.decode(b"drag_drop")
    with pytest.raises(InvalidContentError, match=r"unknown fields 'Count', 'x'; known: kind, count, group"):
        ask(task, x=1, Count=6)
    for group in ("purple", "", 5, ["red"], False):
        with pytest.raises(InvalidContentError, match="'group' must be one of blue, green, red"):
            ask(task, group=group)


def test_a_small_pool_gives_what_it_has(tmp_path: Path) -> None:
    """Whatever fits into the two groups together is answered every time, and the rest never."""
    task = build_task(SPEC, Pool(write_pool(tmp_path, {"red": 2, "green": 3, "blue": 5})))
    for _ in range(15):
        assert len(ask(task, count=5)["images"]) == 5
        assert Counter(image["group"] for image in ask(task, count=8, group="green")["images"]) == {
            "green": 3,
            "blue": 5,
        }
        assert ask(task, count=6, group="red")["groups"] == ["blue", "red"]
    for fields in ({"count": 9}, {"count": 8, "group": "red"}, {"count": 24}):
        with pytest.raises(InvalidContentError, match="the pool has fewer than"):
            task.decode({"kind": "drag_drop", **fields})


def test_specs_that_do_not_suit(pool: Pool) -> None:
    with pytest.raises(SpecError, match=r"needs a handler\.pool"):
        build_task(SPEC, None)
    with pytest.raises(SpecError, match="runs no network"):
        build_task(HandlerSpec("random_images", network=NetworkSpec("model.onnx", (1,))), pool)
