"""PyTorch network -> one ONNX file that any machine may see. Knows nothing of archives."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from export.errors import ExportError


class ServedClassifier(nn.Module):
    """The network as it is served: uint8 pixels (B, H, W, 3) as decoded -> probabilities (B, classes), and what else
    the classifier puts out.

    The change of layout, like the normalisation and the softmax, is inside the graph: there it costs next to nothing.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        outputs: torch.Tensor | tuple[torch.Tensor, ...] = self.classifier(pixels.permute(0, 3, 1, 2))  # (B, 3, H, W)
        return outputs


def write_onnx(
    model: nn.Module, input_shape: tuple[int, ...], path: Path, outputs: Sequence[str] = ("probabilities",)
) -> None:
    """Export with a dynamic batch axis, weights inside, machine paths stripped; then onnx.checker.

    Raises ExportError where the checker objects.
    """
    example = torch.zeros((2, *input_shape), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model.eval(),
            (example,),
            dynamo=True,
            input_names=["pixels"],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx produced no program")
    proto = program.model_proto
    _strip_metadata(proto)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"onnx.checker refuses the exported network: {error}") from error
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _strip_metadata(proto: onnx.ModelProto) -> None:
    """Drop the stack traces, and with them the paths of this machine, that the exporter writes into the nodes."""
    _clear(proto)
    holders: list[Any] = [proto.graph, *proto.functions]
    while holders:
        graph = holders.pop()
        _clear(graph)
        for node in graph.node:
            _clear(node)
            for attribute in node.attribute:  # the branches of an If, the body of a Loop
                holders += [attribute.g] if attribute.HasField("g") else []
                holders += attribute.graphs
        for field in ("input", "output", "value_info", "initializer"):
            for value in getattr(graph, field, ()):
                if not isinstance(value, str):  # a function's inputs and outputs are bare names
                    _clear(value)


def _clear(part: Any) -> None:
    part.doc_string = ""
    del part.metadata_props[:]
