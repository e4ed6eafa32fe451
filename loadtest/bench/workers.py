"""Which process is a worker of which model, where a server has TorchServe's management API."""

from __future__ import annotations

from collections.abc import Sequence

import httpx


def workers(management: str, models: Sequence[str]) -> dict[int, str]:
    """Process id -> model. Raises httpx.HTTPError, LookupError, TypeError or ValueError where there is no such API."""
    found: dict[int, str] = {}
    for name in models:
        (model,) = httpx.get(f"{management}/models/{name}", trust_env=False).json()
        found |= {int(worker["pid"]): name for worker in model["workers"]}
    return found
