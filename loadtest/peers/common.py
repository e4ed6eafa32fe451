"""What every peer shares: the models, with the handlers that marserve serves too, and where to listen.

`loadtest.bench` starts a peer with these in the environment: PEER_MODELS (a folder of unpacked archives), PEER_NAMES
(which of them to serve), PEER_PORT and PEER_WORKERS (how many processes per model: one for every core).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from handlers.errors import RequestError
from handlers.pipeline import Pipeline
from handlers.spec import read_spec
from handlers.tasks import Task, build_task

HOST = "127.0.0.1"
PORT = int(os.environ.get("PEER_PORT", "8000"))
WORKERS = int(os.environ.get("PEER_WORKERS", "1"))
NAMES = tuple(os.environ.get("PEER_NAMES", "").split(","))


class Model:
    """One model, with one thread."""

    def __init__(self, name: str) -> None:
        self._pipeline = Pipeline.load(Path(os.environ["PEER_MODELS"], name), read_spec(_config(name)))

    def __call__(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Bodies of requests -> bodies of replies, JSON both (or an image's file), in order."""
        return [reply.body for reply in self._pipeline([{"body": body} for body in bodies])]

    def answers(self, instances: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The same for servers that read and write JSON by themselves."""
        return [
            answer.body() if isinstance(answer, RequestError) else answer for answer in self._pipeline.answer(instances)
        ]


def batching(name: str) -> tuple[int, int]:
    """The most requests in a batch, and how long one may wait for others, ms."""
    return (16, 2) if name == "captcha_image" else (32, 1)


def task_of(name: str) -> Task:
    """What decodes and encodes, for a server that runs the network by itself."""
    return build_task(read_spec(_config(name)), None)


def _config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(Path(os.environ["PEER_MODELS"], name, "model-config.yaml").read_bytes())
    return config
