"""Load shapes as data: how many users there are when. Knows nothing of Locust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from loadtest.errors import LoadTestError

SHAPES = Path(__file__).with_name("shapes.yaml")
MIN_DURATION, MAX_DURATION = 1, 86_400  # seconds of one stage; Locust looks at a shape once a second
MAX_USERS = 10_000
_FIELDS = ("duration", "users", "spawn_rate")


@dataclass(frozen=True, slots=True)
class Stage:
    """`duration` seconds towards `users`, started or stopped at `spawn_rate` per second."""

    duration: float
    users: int
    spawn_rate: float


def load_shape(name: str, users: int | None = None, duration: float | None = None) -> list[Stage]:
    """The shape that a name of shapes.yaml or a YAML file gives, scaled. Raises LoadTestError."""
    known = _read_yaml(SHAPES)
    if name in known:
        data = known[name]
    elif name.endswith((".yaml", ".yml")):
        data = _read_yaml(Path(name))
    else:
        raise LoadTestError(f"unknown shape {name!r}: one of {', '.join(known)}, or a YAML file with a list of stages")
    return scale(parse_shape(data, name), users, duration)


def parse_shape(data: Any, name: str) -> list[Stage]:
    """What YAML gave -> stages. Raises LoadTestError saying which stage is wrong and how."""
    if not isinstance(data, list) or not data:
        raise LoadTestError(f"{name}: a shape is a list of stages, each with {', '.join(_FIELDS)}")
    stages = [_parse_stage(entry, f"{name}, stage {number}") for number, entry in enumerate(data, 1)]
    for number, (before, stage) in enumerate(pairwise([Stage(0, 0, 1), *stages]), 1):
        if abs(stage.users - before.users) > stage.spawn_rate * stage.duration:
            raise LoadTestError(
                f"{name}, stage {number}: {stage.users} users are not reached in {stage.duration:g} s "
                f"at {stage.spawn_rate:g} per second"
            )
    return stages


def scale(stages: Sequence[Stage], users: int | None, duration: float | None) -> list[Stage]:
    """The same curve with another peak of users, another length in seconds, or both. Raises LoadTestError."""
    wider = users / peak(stages) if users else 1.0
    longer = duration / length(stages) if duration else 1.0
    if duration and min(stage.duration for stage in stages) * longer < MIN_DURATION - 1e-9:
        shortest = length(stages) / min(stage.duration for stage in stages) * MIN_DURATION
        raise LoadTestError(f"{duration:g} s are too short for this shape's {len(stages)} stages: {shortest:g} or more")
    scaled, before = [], 0
    for stage in stages:
        number, seconds = max(1, round(stage.users * wider)), stage.duration * longer
        # Rounding may ask for a little more than the scaled rate reaches in time.
        rate = max(stage.spawn_rate * wider / longer, abs(number - before) / seconds)
        scaled.append(Stage(seconds, number, rate))
        before = number
    return scaled


def peak(stages: Sequence[Stage]) -> int:
    return max(stage.users for stage in stages)


def length(stages: Sequence[Stage]) -> float:
    return sum(stage.duration for stage in stages)


def stage_at(stages: Sequence[Stage], seconds: float) -> Stage | None:
    """The stage that is on after so many seconds; None after the last."""
    for stage in stages:
        if seconds < stage.duration:
            return stage
        seconds -= stage.duration
    return None


def _parse_stage(entry: Any, where: str) -> Stage:
    if not isinstance(entry, dict) or set(entry) != set(_FIELDS):
        raise LoadTestError(f"{where}: expected exactly the fields {', '.join(_FIELDS)}")
    duration, users, rate = (entry[name] for name in _FIELDS)
    if not _is_number(duration) or not MIN_DURATION <= duration <= MAX_DURATION:
        raise LoadTestError(f"{where}: 'duration' must be seconds from {MIN_DURATION} to {MAX_DURATION}")
    if type(users) is not int or not 1 <= users <= MAX_USERS:
        raise LoadTestError(f"{where}: 'users' must be a whole number from 1 to {MAX_USERS}")
    if not _is_number(rate) or not 0 < rate <= MAX_USERS:
        raise LoadTestError(f"{where}: 'spawn_rate' must be users per second, above 0 and at most {MAX_USERS}")
    return Stage(float(duration), users, float(rate))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise LoadTestError(f"the shape {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LoadTestError(f"cannot read the shape {path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none, say
        raise LoadTestError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
