"""In what numbers an archive's network computes: float32 as exported, float16, or 8 bits; each with its own gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from export.comparison import check_accuracy, cpu, labelled, load, medians, photographs_in, score
from export.errors import ExportError
from export.half import check_half, to_half
from export.image_classifier import crops, photographs
from export.quantize import quantize
from handlers.errors import SpecError
from handlers.image import Limits
from handlers.network import Network
from handlers.spec import HandlerSpec

CALIBRATION_IMAGES = 500


@dataclass(frozen=True, slots=True)
class Precision:
    """What is asked for, and the folders that it takes."""

    kind: Literal["float32", "float16", "dynamic", "static"] = "float32"
    calibration: Path | None = None  # static: photographs, labels do not matter
    unseen: Path | None = None  # dynamic, static: labelled photographs
    data_dir: Path | None = None  # float16: photographs to compare on; default: crops of the example


def check_kind(precision: Precision, name: str, handler: dict[str, Any]) -> None:
    """Raises ExportError for a model whose network has no such weights."""
    if precision.kind != "float32" and handler.get("task") not in ("image_classification", "yes_no"):
        task = str(handler.get("task"))
        what = f"for {task}" if "network" in handler else "a pool of images"
        what = "a forest: its splits are no weights" if task.startswith("trajectory") else what
        what = "cut out of a float32 network" if task == "image_embedding" else what
        raise ExportError(f"{name} is {what}; --quantize and --fp16 are for image classifiers")


def to_precision(
    precision: Precision,
    spec: HandlerSpec,
    metadata: dict[str, Any],
    network: Path,
    example: Path,
    packed_size: Callable[[Path], int],
) -> dict[str, Any]:
    """Replace the float32 network in `network` by the asked one; what the archive's metadata says of it.

    `packed_size` packs the archive around a network and returns its bytes. Raises ExportError where a gate fails.
    """
    if had := [key for key in ("quantization", "float16") if key in metadata]:
        raise ExportError(f"the archive's network is not the float32 one (it has {had[0]}): start from that one")
    if spec.network is None:
        raise ExportError("this model has no network")
    if spec.preprocessing != "crop":
        raise ExportError("--quantize and --fp16 are for photographs, not for what is brought to white on black first")
    original = network.with_name("float32.onnx")
    network.rename(original)
    if precision.kind == "float16":
        size = spec.network.input_shape[0]
        inputs = photographs(precision.data_dir, size) if precision.data_dir else crops(example, size)
        to_half(original, network)
        parity = check_half(original, network, inputs)
        sizes = {"onnx_bytes": network.stat().st_size, "onnx_bytes_before": original.stat().st_size}
        return {"float16": asdict(parity) | sizes}
    return {"quantization": _quantized(precision, spec, original, network, packed_size)}


def _quantized(
    precision: Precision, spec: HandlerSpec, original: Path, network: Path, packed_size: Callable[[Path], int]
) -> dict[str, Any]:
    if precision.unseen is None or spec.network is None or precision.kind not in ("dynamic", "static"):
        raise ExportError("--quantize needs --unseen: labelled photographs that no training saw")
    limits, size = Limits(**asdict(spec.limits)), spec.network.input_shape[0]
    photos = labelled(precision.unseen, spec.labels)
    chosen = _calibration(precision.calibration, {path.resolve() for path, _ in photos})
    quantize(precision.kind, original, network, (load(path, size, limits) for path in chosen))
    serving = replace(spec.network, provider="cpu", threads=1)
    try:
        before, after = (Network(path.parent, replace(serving, file=path.name)) for path in (original, network))
    except SpecError as error:
        raise ExportError(str(error)) from error
    scores = score(before, after, photos, limits)
    check_accuracy(scores, f"{precision.kind} quantisation")
    pixels = load(photos[0][0], size, limits)
    times = {batch: medians((before, after), batch, pixels) for batch in sorted({1, serving.chunk})}
    sides = {}
    for index, (side, path) in enumerate((("before", original), ("after", network))):
        sides[side] = {
            "accuracy": getattr(scores, side),
            "onnx_bytes": path.stat().st_size,
            "archive_bytes": round(packed_size(path), -4),  # with this record the archive has some hundred bytes more
            "milliseconds": {str(batch): round(found[index], 3) for batch, found in times.items()},
        }
    return {
        "method": precision.kind,
        "calibration_images": len(chosen),
        "images": scores.images,
        "equal_labels": scores.equal_labels,
        "cpu": cpu(),
        **sides,
    }


def _calibration(folder: Path | None, unseen: set[Path]) -> list[Path]:
    """Up to CALIBRATION_IMAGES photographs, evenly over a folder. Raises ExportError where one is among the unseen."""
    if folder is None:
        return []
    found = photographs_in(folder)
    if not found:
        raise ExportError(f"--calibration {folder} holds no photographs")
    if both := next((path for path in found if path.resolve() in unseen), None):
        raise ExportError(f"{both} is in --calibration and in --unseen: what calibrates a network cannot judge it")
    return [found[i] for i in np.linspace(0, len(found) - 1, min(CALIBRATION_IMAGES, len(found))).astype(int)]
