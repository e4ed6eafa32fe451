"""What classifiers have in common: their labels, and a part of their replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from handlers.errors import SpecError
from handlers.spec import HandlerSpec


def check_labels(spec: HandlerSpec) -> None:
    """Raises SpecError."""
    if len(spec.labels) < 2 or len(set(spec.labels)) < len(spec.labels):
        raise SpecError(f"{spec.task} needs at least two handler.labels, each once")


def classified(labels: Sequence[str], probabilities: NDArray[Any]) -> tuple[int, dict[str, Any]]:
    """Probabilities (labels,) -> the index of the likeliest label, and the part of the reply with all of them."""
    best = int(probabilities.argmax())
    return best, {
        "confidence": round(float(probabilities[best]), 6),
        "probabilities": {label: round(float(p), 6) for label, p in zip(labels, probabilities, strict=True)},
    }
