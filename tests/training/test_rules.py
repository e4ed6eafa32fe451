"""The fixed rules that a detector has to beat."""

from __future__ import annotations

import numpy as np
import pytest

from handlers.trajectory import Trajectory
from training.rules import looks_human


def moved(points: int = 20, duration: float = 600, way: float = 300, fast_first: bool = True) -> Trajectory:
    share = np.linspace(0, 1, points)
    progress = np.sqrt(share) if fast_first else share**2
    return Trajectory(progress * way, np.zeros(points), share * duration)


def test_a_slowing_movement_passes() -> None:
    assert looks_human(moved(points=40))


@pytest.mark.parametrize(
    "wrong",
    [
        moved(points=40, duration=299),
        moved(points=9, way=100),
        moved(points=12, way=900),  # a jump of over 50 px
        moved(points=40, fast_first=False),
    ],
)
def test_each_rule_refuses(wrong: Trajectory) -> None:
    assert not looks_human(wrong)
