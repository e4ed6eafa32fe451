"""A file of small images with known labels, which a request may name by their number instead of sending one.

{"attribution": "...", "samples": [{"label": "7", "data": "<base64 PNG>"}, ...]}
"""

from __future__ import annotations

import base64
import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from handlers import image
from handlers.errors import RequestError, SpecError

NOISE = 40  # standard deviation, in grey levels of 255


@dataclass(frozen=True, slots=True)
class Sample:
    """A PNG and what it shows."""

    data: bytes
    label: str

    def with_noise(self) -> bytes:
        """Another PNG every time: Gaussian noise on each channel of each pixel."""
        pixels = image.decode(self.data)
        noisy = pixels + np.random.default_rng().normal(0, NOISE, pixels.shape)
        bgr = np.clip(noisy.round(), 0, 255).astype(np.uint8)[:, :, ::-1]
        return cv2.imencode(".png", bgr)[1].tobytes()


def read_samples(path: Path, labels: Container[str] | None = None) -> list[Sample]:
    """Raises SpecError where the file is none of samples, an image is not good, or a label is none of `labels`."""
    try:
        entries = json.loads(path.read_bytes())["samples"]
        samples = [Sample(base64.b64decode(entry["data"], validate=True), entry["label"]) for entry in entries]
        for sample in samples:
            image.decode(sample.data)
    except (OSError, ValueError, KeyError, TypeError, RequestError) as error:
        raise SpecError(f"handler.samples: {path.name} is no file of samples: {error!r}") from None
    if labels is not None and (strangers := [sample.label for sample in samples if sample.label not in labels]):
        raise SpecError(f"handler.samples: {path.name} has the label {strangers[0]!r}, which is not in handler.labels")
    if not samples:
        raise SpecError(f"handler.samples: {path.name} is empty")
    return samples
