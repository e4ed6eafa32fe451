"""A network becomes one file that says nothing of the machine it was made on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from export.errors import ExportError
from export.onnx_file import ServedClassifier, write_onnx
from tests.export.models import ROOT, SIDE, RedOrBlue, flat


class Branching(nn.Module):
    """Has a subgraph in each branch of an If."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        sums = pixels.float().sum(dim=(1, 2))
        scores: torch.Tensor = torch.cond(sums.sum() > 9, lambda x: x.softmax(1), lambda x: (2 * x).softmax(1), (sums,))
        return scores


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_size(small_onnx: Path, batch: int) -> None:
    session = ort.InferenceSession(small_onnx, providers=["CPUExecutionProvider"])
    pixels = np.stack([flat(50 * i, 9, 200) for i in range(batch)])
    (probabilities,) = session.run(None, {"pixels": pixels})
    assert probabilities.shape == (batch, 2)
    with torch.inference_mode():
        np.testing.assert_allclose(probabilities, RedOrBlue()(torch.from_numpy(pixels)), atol=1e-6)


def test_names_types_and_the_batch_axis(small_onnx: Path) -> None:
    session = ort.InferenceSession(small_onnx, providers=["CPUExecutionProvider"])
    (pixels,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (pixels.name, pixels.type, pixels.shape[1:]) == ("pixels", "tensor(uint8)", [SIDE, SIDE, 3])
    assert isinstance(pixels.shape[0], str)
    assert (probabilities.name, probabilities.type) == ("probabilities", "tensor(float)")


def test_weights_are_inside(small_onnx: Path) -> None:
    assert [path.name for path in small_onnx.parent.iterdir()] == [small_onnx.name]
    initializers = onnx.load(small_onnx, load_external_data=False).graph.initializer
    assert initializers
    assert all(not weight.external_data for weight in initializers)


def test_same_network_same_bytes_without_a_trace_of_the_machine(tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    for path in (first, second):
        write_onnx(Branching(), (SIDE, SIDE, 3), path)
    content = first.read_bytes()
    assert content == second.read_bytes()
    for trace in (b".py", b"stack_trace", str(ROOT).encode(), str(Path.home()).encode() + b"/", str(tmp_path).encode()):
        assert trace not in content


def test_what_the_checker_refuses_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(proto: onnx.ModelProto, full_check: bool) -> None:
        raise onnx.checker.ValidationError("no such operator")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(ExportError, match="no such operator"):
        write_onnx(RedOrBlue(), (SIDE, SIDE, 3), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_served_classifier_takes_pixels_as_decoded() -> None:
    """Channels last in, whatever the classifier says out."""

    class Means(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.float().mean(dim=(2, 3))  # (B, 3): of channels first

    probabilities = ServedClassifier(Means())(torch.from_numpy(flat(2, 0, 1)[None]))
    torch.testing.assert_close(probabilities, torch.tensor([[2.0, 0.0, 1.0]]))
