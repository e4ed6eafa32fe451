"""What every peer shares: the models, with the handlers that marserve serves too, and where to listen.

`loadtest.bench` starts a peer with these in the environment: PEER_MODELS (a folder of unpacked archives), PEER_NAMES
(which of them to serve), PEER_PORT and PEER_WORKERS (how many processes per model: one for every core).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from handlers.pipeline import Pipeline
from handlers.spec import read_spec

HOST = "127.0.0.1"
PORT = int(os.environ.get("PEER_PORT", "8000"))
WORKERS = int(os.environ.get("PEER_WORKERS", "1"))
NAMES = tuple(os.environ.get("PEER_NAMES", "").split(","))


class Model:
    """One model, with one thread."""

    def __init__(self, name: str) -> None:
        folder = Path(os.environ["PEER_MODELS"], name)
        config = yaml.safe_load((folder / "model-config.yaml").read_bytes())
        self._pipeline = Pipeline.load(folder, read_spec(config))

    def __call__(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Bodies of requests -> bodies of replies, JSON both (or an image's file), in order."""
        return [reply.body for reply in self._pipeline([{"body": body} for body in bodies])]


def batching(name: str) -> tuple[int, int]:
    """The most requests in a batch, and how long one may wait for others, ms: what the archive asks TorchServe for."""
    config = yaml.safe_load(Path(os.environ["PEER_MODELS"], name, "model-config.yaml").read_bytes())
    return config["batchSize"], config["maxBatchDelay"]
