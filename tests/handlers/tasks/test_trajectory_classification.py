"""A movement -> bot or human."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers.errors import SpecError
from handlers.tasks import Item, build_task
from tests.handlers.movements import classifier, classifier_spec, movement


def test_the_reply(tmp_path: Path) -> None:
    slow, fast = classifier(tmp_path)([{"body": movement(duration=d)} for d in (1000, 100)])
    assert json.loads(slow.body) == {"label": "bot", "score": 0.268941, "threshold": 0.5}
    assert json.loads(fast.body) == {"label": "human", "score": 0.999665, "threshold": 0.5}


@pytest.mark.parametrize(("threshold", "label"), [(0.268941, "human"), (0.268942, "bot"), (0, "human"), (1, "bot")])
def test_a_score_on_the_threshold_is_human(tmp_path: Path, threshold: float, label: str) -> None:
    (reply,) = classifier(tmp_path, threshold)([{"body": movement()}])
    assert json.loads(reply.body)["label"] == label


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ("human", "bot")}, r"needs handler.labels \[bot, human\]"),
        ({"labels": ()}, "needs handler.labels"),
        ({"reference": ()}, "handler.reference must have 6 numbers"),
        ({"reference": (1e39,) * 6}, "handler.reference must be finite in float32"),
    ],
)
def test_specs_that_do_not_suit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_task(replace(classifier_spec(), **change), None)


def test_one_number_is_expected() -> None:
    with pytest.raises(ValueError, match="size 1"):
        build_task(classifier_spec(), None).encode(Item(None), {"human": np.zeros(2, np.float32)})
