"""The gate of every export: the ONNX file must give the probabilities that PyTorch gives, on real inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from export.errors import ExportError

TOLERANCE = 1e-4
BATCH_SIZES = (1, 2, 7)


@dataclass(frozen=True, slots=True)
class Parity:
    """How far apart the two are over all inputs and batch sizes."""

    inputs: int
    max_difference: float
    tolerance: float = TOLERANCE
    batch_sizes: tuple[int, ...] = BATCH_SIZES


def check_parity(
    model: nn.Module, path: Path, inputs: Sequence[tuple[str, NDArray[Any]]], tolerance: float = TOLERANCE
) -> Parity:
    """Compare probabilities on named inputs, each (*input_shape), at batch 1, 2 and 7; all outputs, where the last axis
    of each is the classes'.

    Raises ExportError that names the worst input where any probability is off by more than `tolerance`, or where the
    most probable label differs.
    """
    names = [name for name, _ in inputs]
    arrays = np.stack([array for _, array in inputs])  # (N, *input_shape)
    # One thread each: the last digits hang on the order of sums, and the record must not hang on the number of cores.
    with torch.inference_mode(), _one_thread():
        expected = np.concatenate([_rows(model(torch.from_numpy(a[None]))) for a in arrays])  # (N, rows, classes)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name
    worst = 0.0
    for batch in BATCH_SIZES:
        got = np.concatenate(
            [_rows(session.run(None, {input_name: arrays[i : i + batch]})) for i in range(0, len(arrays), batch)]
        )
        difference, differs = compare(expected, got)
        # NaN compares false with everything, so the gate asks for what is good.
        bad = ~(difference <= tolerance) | differs
        if bad.any():
            index = furthest(difference, bad)
            raise ExportError(
                f"parity fails at batch {batch} for {int(bad.sum())} of {len(names)} inputs; worst is {names[index]}: "
                f"PyTorch {expected[index][0].round(5).tolist()}, ONNX {got[index][0].round(5).tolist()} "
                f"(tolerance {tolerance:g})"
            )
        worst = max(worst, float(difference.max()))
    return Parity(len(names), worst, tolerance)


def compare(expected: NDArray[Any], got: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Two networks' (N, ..., classes) -> each item's largest difference, and whether a best class of it differs; (N,)
    each."""
    others = tuple(range(1, got.ndim - 1))
    differs = got.argmax(axis=-1) != expected.argmax(axis=-1)
    return np.abs(got - expected).max(axis=(*others, -1)), differs.any(axis=others) if others else differs


def furthest(difference: NDArray[Any], bad: NDArray[np.bool_]) -> int:
    """The bad row with the largest difference; NaN is larger than any."""
    return int(np.where(bad, np.nan_to_num(difference, nan=np.inf), -1).argmax())


def _rows(outputs: Any) -> NDArray[Any]:
    """Outputs (B, classes) and (B, ..., classes), or only the first of these -> (B, rows, classes)."""
    several = outputs if isinstance(outputs, list | tuple) else [outputs]
    arrays = [np.asarray(output) for output in several]
    return np.concatenate([array.reshape(len(array), -1, array.shape[-1]) for array in arrays], axis=1)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
