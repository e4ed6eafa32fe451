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
    """Compare probabilities on named inputs, each (*input_shape), at batch 1, 2 and 7.

    Raises ExportError that names the worst input where any probability is off by more than `tolerance`, or where the
    most probable label differs.
    """
    names = [name for name, _ in inputs]
    arrays = np.stack([array for _, array in inputs])  # (N, *input_shape)
    # One thread each: the last digits hang on the order of sums, and the record must not hang on the number of cores.
    with torch.inference_mode(), _one_thread():
        expected = np.concatenate([model(torch.from_numpy(a[None])).numpy() for a in arrays])  # (N, classes)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name
    worst = 0.0
    for batch in BATCH_SIZES:
        got = np.concatenate(
            [session.run(None, {input_name: arrays[i : i + batch]})[0] for i in range(0, len(arrays), batch)]
        )
        difference, differs = compare(expected, got)
        # NaN compares false with everything, so the gate asks for what is good.
        bad = ~(difference <= tolerance) | differs
        if bad.any():
            index = furthest(difference, bad)
            raise ExportError(
                f"parity fails at batch {batch} for {int(bad.sum())} of {len(names)} inputs; worst is {names[index]}: "
                f"PyTorch {expected[index].round(5).tolist()}, ONNX {got[index].round(5).tolist()} "
                f"(tolerance {tolerance:g})"
            )
        worst = max(worst, float(difference.max()))
    return Parity(len(names), worst, tolerance)


def compare(expected: NDArray[Any], got: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Two networks' (N, classes) -> each row's largest difference, and whether its best class differs; (N,) each."""
    return np.abs(got - expected).max(axis=1), got.argmax(axis=1) != expected.argmax(axis=1)


def furthest(difference: NDArray[Any], bad: NDArray[np.bool_]) -> int:
    """The bad row with the largest difference; NaN is larger than any."""
    return int(np.where(bad, np.nan_to_num(difference, nan=np.inf), -1).argmax())


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
