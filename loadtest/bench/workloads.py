"""What is asked: bodies of requests, how many connections send them, and the answers that are right."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from handlers import points
from handlers.pipeline import Pipeline
from handlers.spec import HandlerSpec, read_spec
from handlers.trajectory import NAMES, features
from loadtest.bench.store import IMAGE, MOVEMENT, TICKET
from loadtest.micro import request

POINTS = 200  # of a movement
BODIES = 16  # different ones of a kind
TOLERANCE = 1e-3
_CHECKED = ("score", "anomaly", "probabilities")  # of an answer; a label may flip at its threshold


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: a JSON object, or an image's file. `expected` has the numbers of the right answer."""

    model: str
    body: bytes
    expected: Mapping[str, Any]

    @property
    def is_json(self) -> bool:
        return self.body.startswith(b"{")

    def is_right(self, answer: Any) -> bool:
        """Whether a reply's JSON has the expected numbers, each within TOLERANCE."""
        return isinstance(answer, dict) and all(_near(answer.get(key), value) for key, value in self.expected.items())


@dataclass(frozen=True, slots=True)
class Workload:
    """`connections` that each send the next of `asks` as soon as they have a reply."""

    name: str
    connections: int
    asks: tuple[Ask, ...]


KINDS = {"tabular": (MOVEMENT,), "trajectory": (MOVEMENT,), "image": (IMAGE,), "mixed": (IMAGE, MOVEMENT, TICKET)}
CONNECTIONS = {
    "tabular_c1": 1,
    "tabular_c32": 32,
    "tabular_c128": 128,
    "trajectory_c32": 32,
    "image_c1": 1,
    "image_c16": 16,
    "image_c64": 64,
    "mixed": 32,
}


def models_of(names: Sequence[str]) -> tuple[str, ...]:
    """Of these workloads, each once."""
    return tuple(dict.fromkeys(model for name in names for model in KINDS[kind_of(name)]))


def kind_of(name: str) -> str:
    return name.partition("_")[0]


def build_workloads(names: Sequence[str], models: Path) -> list[Workload]:
    """From a folder of unpacked archives, which give the right answers too."""
    specs: dict[str, HandlerSpec] = {}
    pipelines: dict[str, Pipeline] = {}
    for model in models_of(names):
        specs[model] = read_spec(yaml.safe_load((models / model / "model-config.yaml").read_bytes()))
        pipelines[model] = Pipeline.load(models / model, specs[model])

    def ask(model: str, body: bytes) -> Ask:
        (reply,) = pipelines[model]([{"body": body}])
        answer = json.loads(reply.body)
        return Ask(model, body, {key: answer[key] for key in _CHECKED if key in answer})

    def tabular(index: int) -> list[Ask]:
        values = features([points.read(request(index, POINTS))])[0]
        row = [float(values[NAMES.index(name)]) for name in specs[MOVEMENT].features]
        return [ask(MOVEMENT, json.dumps({"features": row}).encode())]

    def trajectory(index: int, model: str = MOVEMENT) -> list[Ask]:
        return [ask(model, json.dumps(request(index, POINTS)).encode())]

    def image(index: int) -> list[Ask]:
        return [ask(IMAGE, photograph(index))]

    def mixed(index: int) -> list[Ask]:
        return image(index) + trajectory(index) + trajectory(index, TICKET)

    makers: dict[str, Callable[[int], list[Ask]]] = {
        "tabular": tabular,
        "trajectory": trajectory,
        "image": image,
        "mixed": mixed,
    }
    asks = {
        kind: tuple(one for index in range(BODIES) for one in makers[kind](index))
        for kind in dict.fromkeys(map(kind_of, names))
    }
    return [Workload(name, CONNECTIONS[name], asks[kind_of(name)]) for name in names]


def photograph(seed: int) -> bytes:
    """A JPEG of about 500x300 pixels and 20 to 40 KB, as photographs of that size have: smooth noise and shapes."""
    random = np.random.default_rng(seed)
    width, height = 500 + int(random.integers(-20, 21)), 300 + int(random.integers(-20, 21))
    pixels = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 110), (16, 60), (64, 45), (160, 30)):
        noise = random.uniform(0, strength, (cells, cells, 3)).astype(np.float32)
        pixels += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = pixels.clip(0, 255).astype(np.uint8)
    for _ in range(6):
        colour = random.integers(0, 256, 3).tolist()
        centre = (int(random.integers(width)), int(random.integers(height)))
        cv2.circle(canvas, centre, int(random.integers(10, 60)), colour, -1, cv2.LINE_AA)
    _, encoded = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return encoded.tobytes()


def _near(found: Any, expected: Any) -> bool:
    if isinstance(expected, Mapping):
        return isinstance(found, Mapping) and all(_near(found.get(key), value) for key, value in expected.items())
    return isinstance(found, int | float) and abs(found - expected) <= TOLERANCE
