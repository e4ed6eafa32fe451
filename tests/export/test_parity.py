"""The gate lets equal networks pass and names what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from export.errors import ExportError
from export.onnx_file import write_onnx
from export.parity import BATCH_SIZES, TOLERANCE, check_parity
from tests.export.models import SIDE, RedOrBlue, flat

# The second weight matrix entry that is changed below looks at blue alone.
INPUTS = [("red.jpg", flat(90, 40, 0)), ("bluish.jpg", flat(90, 0, 30)), ("violet.jpg", flat(90, 0, 80))]


def perturbed(source: Path, target: Path, row: int, column: int, value: float) -> Path:
    """The ONNX file with one of its weights (2, 3) replaced."""
    model = onnx.load(source)
    (weight,) = (tensor for tensor in model.graph.initializer if sorted(tensor.dims) == [2, 3])
    array = numpy_helper.to_array(weight).copy()
    place = (row, column) if array.shape == (2, 3) else (column, row)
    array[place] = value
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, target)
    return target


def test_equal_networks_pass(small_onnx: Path) -> None:
    parity = check_parity(RedOrBlue(), small_onnx, INPUTS)
    assert parity.inputs == 3
    assert 0 <= parity.max_difference <= TOLERANCE
    assert (parity.tolerance, parity.batch_sizes) == (TOLERANCE, BATCH_SIZES)
    assert min(BATCH_SIZES) == 1
    assert max(BATCH_SIZES) > 1


def test_a_difference_fails_and_the_worst_input_is_named(small_onnx: Path, tmp_path: Path) -> None:
    changed = perturbed(small_onnx, tmp_path / "changed.onnx", 1, 2, 0.09)
    with pytest.raises(ExportError, match=r"batch 1 for 2 of 3 inputs; worst is violet\.jpg: PyTorch \[0\.\d+, 0\.\d+"):
        check_parity(RedOrBlue(), changed, INPUTS)


def test_a_difference_within_the_tolerance_passes_and_is_recorded(small_onnx: Path, tmp_path: Path) -> None:
    changed = perturbed(small_onnx, tmp_path / "changed.onnx", 1, 2, 0.1001)
    parity = check_parity(RedOrBlue(), changed, INPUTS, tolerance=0.01)
    assert 1e-4 < parity.max_difference <= 0.01
    assert parity.tolerance == 0.01


def test_another_label_fails_whatever_the_tolerance(small_onnx: Path, tmp_path: Path) -> None:
    close: list[tuple[str, NDArray[Any]]] = [("even.jpg", flat(101, 0, 100))]
    changed = perturbed(small_onnx, tmp_path / "changed.onnx", 1, 2, 0.1011 * 1.01)
    with pytest.raises(ExportError, match=r"worst is even\.jpg"):
        check_parity(RedOrBlue(), changed, close, tolerance=1.0)


def test_nan_in_the_onnx_file_fails(small_onnx: Path, tmp_path: Path) -> None:
    changed = perturbed(small_onnx, tmp_path / "changed.onnx", 0, 0, np.nan)
    with pytest.raises(ExportError, match="3 of 3 inputs"):
        check_parity(RedOrBlue(), changed, INPUTS, tolerance=1.0)


def test_nan_in_both_fails(small_onnx: Path, tmp_path: Path) -> None:
    broken = RedOrBlue()
    with torch.no_grad():
        broken.linear.weight[0, 0] = torch.nan
    changed = perturbed(small_onnx, tmp_path / "changed.onnx", 0, 0, np.nan)
    with pytest.raises(ExportError, match="3 of 3 inputs"):
        check_parity(broken, changed, INPUTS)


def test_what_goes_wrong_in_batches_only_is_found(tmp_path: Path) -> None:
    """A network that looks at its neighbours agrees with itself at batch 1."""

    class Neighbours(RedOrBlue):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            probabilities = super().forward(pixels)
            return (probabilities - probabilities.mean(dim=0)).softmax(dim=1)

    write_onnx(Neighbours(), (SIDE, SIDE, 3), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="parity fails at batch 2"):
        check_parity(Neighbours(), tmp_path / "model.onnx", INPUTS)


def test_the_number_of_threads_stays_as_it_was(small_onnx: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    check_parity(RedOrBlue(), small_onnx, INPUTS)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
