"""Movements that look enough like people's: minimum jerk with tremor, a bend and a late correction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from handlers.trajectory import Trajectory
from training.movements import write_stroke

HEAD = "client timestamp,button,state,x,y"


def drag(random: np.random.Generator, points: int = 40) -> Trajectory:
    share = np.linspace(0, 1, points)
    smooth = share**3 * (10 - 15 * share + 6 * share**2)
    smooth = np.clip(np.sort(smooth + random.normal(0, 0.01, points)), 0, 1)
    tremor = random.normal(0, 1.2, (2, points)).cumsum(axis=1) * 0.6
    bend = random.uniform(20, 80) * np.sin(np.pi * smooth) ** 1.5
    x, y = 100 + random.uniform(200, 500) * smooth + tremor[0], 300 + bend + tremor[1]
    return Trajectory(x.round(), y.round(), (random.normal(16.7, 1.5, points).cumsum()).round())


def write_people(folder: Path, people: int = 8, drags: int = 12) -> Path:
    """Sessions of people, strokes of one device, and strokes of one program, in the layout of the recordings."""
    random = np.random.default_rng(0)
    for person in range(people):
        rows, now = [HEAD], 0.0
        for _ in range(drags):
            one = drag(random)
            last = len(one.t) - 1
            for index, (t, x, y) in enumerate(zip(one.t, one.x, one.y, strict=True)):
                state = "Pressed" if index == 0 else "Released" if index == last else "Drag"
                rows.append(f"{now + t:.0f},Left,{state},{x:.0f},{y:.0f}")
            now += one.t[-1] + 900
            free = drag(random, points=20)
            rows += [
                f"{now + t:.0f},NoButton,Move,{x:.0f},{y:.0f}" for t, x, y in zip(free.t, free.x, free.y, strict=True)
            ]
            now += 1500
        place = folder / "sessions" / f"user{person}" / "session.csv"
        place.parent.mkdir(parents=True)
        place.write_text("\n".join(rows) + "\n")
    for number in range(10):
        write_stroke(folder / f"strokes/human_pc/{number}.txt", drag(random))
        line = np.linspace(0, 300, 30)
        write_stroke(folder / f"strokes/bot_ruler/{number}.txt", Trajectory(line, line * number / 10, line * 2))
    return folder
