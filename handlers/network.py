"""One onnxruntime session: where it runs, whether it is the network its spec describes, and one run of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from handlers.errors import SpecError
from handlers.runner import Bound, Plain, Runner
from handlers.spec import NetworkSpec

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "int64": "tensor(int64)"}


class Network:
    """Arrays of one shape in, one row of every output per item out."""

    def __init__(self, folder: Path, spec: NetworkSpec, gpu_id: int | None = None) -> None:
        """Load and check the network, then run it once at every batch size that its runner names.

        Raises SpecError where the file, the provider or the signature is not what the spec says.
        """
        self.spec = spec
        path = folder / spec.file
        if not path.is_file():
            raise SpecError(f"the archive lacks {spec.file}, which handler.network.file names")
        options = ort.SessionOptions()
        options.intra_op_num_threads = spec.threads
        options.inter_op_num_threads = 1
        # Memory planned for one batch size is kept beside that of every other: 36 MB of a worker for EfficientNet-B0 at
        # 224 pixels, and no time saved.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        wanted = _providers(spec.provider, gpu_id)
        try:
            self._session = ort.InferenceSession(path, options, providers=wanted)
        except Exception as error:  # onnxruntime's errors share no public base class
            raise SpecError(f"onnxruntime cannot load {spec.file}: {error}") from error
        self.provider = self._session.get_providers()[0]
        if self.provider != wanted[0][0]:
            raise SpecError(
                f"{wanted[0][0]} was asked for and onnxruntime fell back to {self.provider}: see what `nvidia-smi` says"
            )
        self._check_signature()
        self._runner = self._choose_runner(gpu_id)
        self.chunk = self._runner.sizes[-1]
        for batch in reversed(self._runner.sizes):
            try:
                self.run([np.zeros(spec.input_shape, spec.input_type)] * batch)
            except Exception as error:
                raise SpecError(f"{spec.file} fails on {batch} items of zeros: {error}") from error

    @property
    def signature(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Name, type and shape of every input, and of every output; None is an axis of any length."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        return [_described(one) for one in inputs], [_described(one) for one in outputs]

    def run(self, items: Sequence[NDArray[Any]]) -> list[Mapping[str, NDArray[Any]]]:
        """Run the items as one batch; one mapping from output name to that item's row, in order."""
        outputs = self._runner(items)
        return [dict(zip(self.spec.outputs, row, strict=True)) for row in zip(*outputs, strict=True)]

    def _choose_runner(self, gpu_id: int | None) -> Runner:
        if self.provider != _CUDA:
            return Plain(self._session, self.spec)
        try:
            return Bound(self._session, self.spec, "cuda", gpu_id or 0)
        except Exception as error:  # no memory left on the device, say
            raise SpecError(f"{self.spec.file} cannot be prepared on GPU {gpu_id or 0}: {error}") from error

    def _check_signature(self) -> None:
        """Raises SpecError unless types, shapes and output names are those of the spec."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        expected = _ONNX_TYPES.get(self.spec.input_type)
        if expected is None:
            raise SpecError(f"handler.network.input_type must be one of {', '.join(_ONNX_TYPES)}")
        if len(inputs) != 1 or inputs[0].type != expected or tuple(inputs[0].shape[1:]) != self.spec.input_shape:
            found = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
            raise SpecError(f"the network takes {found}; its spec says {expected} {['batch', *self.spec.input_shape]}")
        if isinstance(inputs[0].shape[0], int):
            raise SpecError(f"the network's batch axis is fixed to {inputs[0].shape[0]}; export it as dynamic")
        if missing := sorted(set(self.spec.outputs) - {o.name for o in outputs}):
            raise SpecError(f"the network has no output named {', '.join(missing)}")


def _described(one: Any) -> dict[str, Any]:
    shape = [extent if isinstance(extent, int) else None for extent in one.shape]
    return {"name": one.name, "dtype": one.type.removeprefix("tensor(").removesuffix(")"), "shape": shape}


def _providers(choice: str, gpu_id: int | None) -> list[tuple[str, dict[str, Any]]]:
    """The provider to use: CUDA where onnxruntime has it and TorchServe has assigned a device, unless forced."""
    available = ort.get_available_providers()
    if choice == "cuda" and _CUDA not in available:
        raise SpecError(
            "handler.network.provider is 'cuda' and this onnxruntime has no CUDA: install the GPU environment "
            "(make serve GPU=1), or set the provider to 'auto'"
        )
    if choice == "cpu" or _CUDA not in available or (choice == "auto" and gpu_id is None):
        return [(_CPU, {})]
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls(directory="")  # CUDA and cuDNN from the environment's own nvidia packages
    options = {
        "device_id": gpu_id or 0,
        # The default tries every algorithm for every convolution at every batch size, at every start.
        "cudnn_conv_algo_search": "HEURISTIC",
        # All sizes run at load, the largest first: rounding up to powers of two would only keep memory from others.
        "arena_extend_strategy": "kSameAsRequested",
    }
    return [(_CUDA, options), (_CPU, {})]
