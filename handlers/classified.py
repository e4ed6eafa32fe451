"""What the replies of classifiers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray


def classified(labels: Sequence[str], probabilities: NDArray[Any]) -> tuple[int, dict[str, Any]]:
    """Probabilities (labels,) -> the index of the likeliest label, and the part of the reply with all of them."""
    best = int(probabilities.argmax())
    return best, {
        "confidence": round(float(probabilities[best]), 6),
        "probabilities": {label: round(float(p), 6) for label, p in zip(labels, probabilities, strict=True)},
    }
