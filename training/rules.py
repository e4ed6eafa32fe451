"""What a CAPTCHA checks without a model: the baseline that a trained detector has to beat."""

from __future__ import annotations

import numpy as np

from handlers.trajectory import Trajectory

MIN_DURATION = 300.0  # ms
MIN_POINTS = 10
MAX_JUMP = 50.0  # px between two points


def looks_human(movement: Trajectory) -> bool:
    """Long enough in time and in points, without a jump, and slower in its second half than in its first."""
    x, y, t = movement.x, movement.y, movement.t
    steps = np.hypot(np.diff(x), np.diff(y))
    if t[-1] - t[0] < MIN_DURATION or len(t) < MIN_POINTS or steps.max() > MAX_JUMP:
        return False
    early = float(steps[np.diff(t).cumsum() <= (t[-1] - t[0]) / 2].sum())
    return 2 * early > float(steps.sum())
