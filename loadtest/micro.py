"""How long one core needs for a behaviour model's own work, without TorchServe: `python -m loadtest.micro`.

Requests are bodies of JSON as clients send them; every figure is a median over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from handlers import payload, points
from handlers.trajectory import Trajectory, features
from marserve.evaluate_movements import TASKS
from marserve.model import load_model
from marserve.terminal import console

BATCH = 32


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.micro", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("archive", nargs="?", type=Path, default=Path("model_store/drag_pattern.mar"))
    parser.add_argument("--points", type=int, default=200, help="of each movement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=300, help="default: %(default)s")
    args = parser.parse_args(argv)
    if not 8 <= args.points <= 5000 or args.rounds < 1:
        parser.error("--points takes 8 to 5000, --rounds 1 and more")
    if not args.archive.is_file():
        parser.error(f"{args.archive} does not exist")
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    bodies = [json.dumps(request(index, args.points)).encode() for index in range(BATCH)]
    rows = [{"body": body} for body in bodies]
    compact = [{"body": json.dumps(as_columns(json.loads(body))).encode()} for body in bodies]
    movements = [decoded(body) for body in bodies]
    with tempfile.TemporaryDirectory(prefix="marserve-micro-") as scratch:
        pipeline, _ = load_model(args.archive, Path(scratch, "model"), TASKS)
        steps: dict[str, tuple[Callable[[], Any], int]] = {
            "JSON to a movement": (lambda: decoded(bodies[0]), 1),
            "features, one movement": (lambda: features(movements[:1]), 1),
            f"features, each of {BATCH} movements": (lambda: features(movements), BATCH),
            "body to reply, one request": (lambda: pipeline(rows[:1]), 1),
            f"body to reply, a batch of {BATCH} requests": (lambda: pipeline(rows), 1),
            "the same in the compact form": (lambda: pipeline(compact), 1),
        }
        table = Table(f"{args.archive.stem}, {args.points} points, one core")
        table.add_column("median ms", justify="right")
        for name, (step, share) in steps.items():
            table.add_row(name, f"{median_ms(step, args.rounds) / share:.3f}")
    console().print(table)


def request(seed: int, count: int) -> dict[str, Any]:
    """A movement about as a hand makes it, in the form with points."""
    random = np.random.default_rng(seed)
    share = np.linspace(0, 1, count)
    way = share**3 * (10 - 15 * share + 6 * share**2)
    x, y = 100 + 600 * way + random.normal(0, 1, count), 300 + 80 * np.sin(3 * way) + random.normal(0, 1, count)
    t = random.uniform(14, 19, count).cumsum()
    columns = zip(x.round(1).tolist(), y.round(1).tolist(), t.round(1).tolist(), strict=True)
    return {"points": [{"x": a, "y": b, "t": c, "type": "move"} for a, b, c in columns]}


def as_columns(listed: Mapping[str, Any]) -> dict[str, Any]:
    """The same movement in the compact form."""
    return {axis: [point[axis] for point in listed["points"]] for axis in "xyt"}


def decoded(body: bytes) -> Trajectory:
    instance = payload.parse({"body": body}).instances[0]
    if not isinstance(instance, dict):
        raise TypeError("a movement is a JSON object")
    return points.read(instance)


def median_ms(step: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
