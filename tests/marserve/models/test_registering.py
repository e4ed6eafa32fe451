"""How many workers a registered version gets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from marserve.archive import read_archive
from marserve.models.registering import usual_workers
from marserve.overrides import Overrides

TOLD = {
    "default_workers_per_model": "5",
    "models": json.dumps({"foreign": {"0.1": {"minWorkers": 2, "maxWorkers": 3}}}),
}


@pytest.mark.parametrize(
    ("own", "overridden", "properties", "wanted"),
    [
        ({"minWorkers": 4, "maxWorkers": 6}, {}, TOLD, (4, 6)),
        ({"minWorkers": 4, "maxWorkers": 6}, {"minWorkers": 1, "maxWorkers": 1}, {}, (1, 1)),
        ({}, {}, TOLD, (2, 3)),
        ({}, {}, {"default_workers_per_model": "5"}, (5, 5)),
        ({"minWorkers": 0, "maxWorkers": 3}, {}, TOLD, (2, 3)),  # TorchServe takes neither then
    ],
)
def test_usual_workers(
    foreign: Path, own: dict[str, int], overridden: dict[str, int], properties: dict[str, str], wanted: tuple[int, int]
) -> None:
    archive = replace(read_archive(foreign), config=own)
    overrides = {"foreign": Overrides(foreign, overridden)} if overridden else {}
    assert usual_workers(archive, overrides, properties) == wanted
