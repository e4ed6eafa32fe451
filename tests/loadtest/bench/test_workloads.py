from __future__ import annotations

import json
from pathlib import Path

import pytest

from handlers import image
from loadtest.bench.store import MOVEMENT, Store, make_store
from loadtest.bench.workloads import CONNECTIONS, Ask, build_workloads, models_of, photograph


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store([MOVEMENT], tmp_path_factory.mktemp("store"))


def test_a_store_has_this_checkouts_handlers(store: Store) -> None:
    assert (store.models / MOVEMENT / "entry.py").read_bytes() == Path("handlers/entry.py").read_bytes()
    assert [path.name for path in store.archives.iterdir()] == [f"{MOVEMENT}.mar"]


def test_requests_differ_and_know_their_answers(store: Store) -> None:
    tabular, trajectory = build_workloads(["tabular_c32", "trajectory_c32"], store.models)
    assert (tabular.connections, trajectory.connections) == (32, 32)
    assert len(json.loads(tabular.asks[0].body)["features"]) == 52
    assert len(json.loads(trajectory.asks[0].body)["points"]) == 200
    for row, movement in zip(tabular.asks, trajectory.asks, strict=True):
        assert 0 <= row.expected["score"] <= 1
        assert movement.is_right({"score": row.expected["score"], "label": "bot"})
    assert len({ask.body for ask in tabular.asks}) == len(tabular.asks)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ({"probabilities": {"a": 0.2509, "b": 0.75}}, True),
        ({"probabilities": {"a": 0.252, "b": 0.75}}, False),
        ({"probabilities": {"a": 0.25}}, False),
        ({"probabilities": None}, False),
        ({"error": {"code": "internal"}}, False),
        (["probabilities"], False),
    ],
)
def test_answers_are_compared(answer: object, right: bool) -> None:
    assert Ask("m", b"{}", {"probabilities": {"a": 0.25, "b": 0.75}}).is_right(answer) is right


def test_photographs_are_as_large_as_real_ones() -> None:
    shown = [photograph(seed) for seed in range(3)]
    assert len(set(shown)) == 3
    for one in shown:
        assert 20_000 <= len(one) <= 40_000
        height, width, _ = image.decode(one).shape
        assert abs(width - 500) <= 20
        assert abs(height - 300) <= 20


def test_models_are_those_that_are_asked() -> None:
    assert models_of(["tabular_c1", "trajectory_c32"]) == (MOVEMENT,)
    assert len(models_of(list(CONNECTIONS))) == 3
