"""Weights to start from: torchvision's own of the same network, or what a training here wrote."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch

from training.architectures import head_name
from training.cli import DataError
from training.network import ImageClassifier


def load(model: ImageClassifier, file: Path) -> str:
    """Start `model` from `file`; the head stays as it is where the number of classes differs. The file's SHA-256.

    Raises DataError where it holds another network.
    """
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"--weights {file} cannot be read: {error.strerror}") from None
    try:
        with warnings.catch_warnings(action="ignore"):
            loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged bytes torch raises whatever its parsing runs into
        raise DataError(f"--weights {file} is no file of weights: {type(error).__name__}") from None
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise DataError(f"--weights {file} holds no state_dict")
    given = {name.removeprefix("network."): tensor for name, tensor in loaded.items()}
    wanted = model.network.state_dict()
    head = f"{head_name(model.network)}."  # fits only where the classes are as many
    for name, tensor in wanted.items():
        fits = isinstance(given.get(name), torch.Tensor) and given[name].shape == tensor.shape
        if not fits and not name.startswith(head):
            raise DataError(f"--weights {file} is of another network: {name} is missing or of another shape")
        given[name] = given[name] if fits else tensor
    model.network.load_state_dict({name: given[name] for name in wanted})
    return digest


def provenance(file: Path) -> dict[str, Any] | None:
    """How the weights in `file` were trained, where the meta.json of a training lies beside it; else None."""
    try:
        meta = json.loads(file.with_name("meta.json").read_bytes())
        return {name: meta[name] for name in ("recipe", "machine", "trained_at")} | {"earlier": meta.get("earlier")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
