"""One batch through a session: plainly, or through buffers that lie on a device before the first request comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from handlers.spec import NetworkSpec


class Runner(Protocol):
    """Items of one shape in; every output of the spec out, with one row per item in order."""

    @property
    def sizes(self) -> Sequence[int]:
        """Batches to try before the first request; the last is the most that is worth running at once."""

    def __call__(self, items: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]: ...


class Plain:
    """On a CPU: the batch as it is."""

    def __init__(self, session: ort.InferenceSession, spec: NetworkSpec) -> None:
        self.sizes = sorted({1, spec.chunk})
        self._session = session
        self._input: str = session.get_inputs()[0].name
        self._outputs = spec.outputs
        self._shape = spec.input_shape

    def __call__(self, items: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        batch = np.concatenate(items).reshape(len(items), *self._shape)  # np.stack's result in a third of its time
        outputs: Sequence[NDArray[Any]] = self._session.run(self._outputs, {self._input: batch})
        return outputs


class _Buffers(NamedTuple):
    """Of one batch size: where items are gathered on the host, and what lies on the device, bound to the session."""

    host: NDArray[Any]  # (size, *input_shape)
    input: ort.OrtValue
    outputs: Sequence[ort.OrtValue]
    binding: ort.IOBinding


class Bound:
    """On a GPU: a batch is filled up to the next of a few sizes, so that no request brings a shape that cuDNN has yet
    to choose algorithms for, or memory that has yet to be allocated. Not for several threads at once."""

    def __init__(self, session: ort.InferenceSession, spec: NetworkSpec, device: str, device_id: int = 0) -> None:
        """`device` is onnxruntime's name: "cuda", or "cpu" to try it without one."""
        self.sizes = list(spec.batch_sizes) or powers_of_two(spec.chunk)
        self._session = session
        one = Plain(session, spec)([np.zeros(spec.input_shape, spec.input_type)])  # shapes and types of the outputs
        # The largest first: what it takes from the device's arena is enough for the others.
        self._buffers = {size: self._allocate(size, spec, one, device, device_id) for size in reversed(self.sizes)}

    def __call__(self, items: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """At most as many items as the largest size. Raises ValueError for more."""
        count = len(items)
        size = next((size for size in self.sizes if size >= count), None)
        if size is None:
            raise ValueError(f"{count} items at once; at most {self.sizes[-1]} have a buffer")
        buffers = self._buffers[size]
        # Filled up with an item of the batch: a network that scales by a batch's range (a dynamically quantised one)
        # then sees no other range. `casting` and the buffer refuse what has another type or shape than the spec.
        np.stack([*items, *[items[-1]] * (size - count)], out=buffers.host, casting="no")
        buffers.input.update_inplace(buffers.host)  # returns when the copy is done
        self._session.run_with_iobinding(buffers.binding)  # and this when the outputs are there
        # Copies: on the CPU `numpy()` is the buffer itself, and the next run writes into it.
        return [np.array(output.numpy()[:count]) for output in buffers.outputs]

    def _allocate(
        self, size: int, spec: NetworkSpec, one: Sequence[NDArray[Any]], device: str, device_id: int
    ) -> _Buffers:
        def on_device(shape: Sequence[int], kind: Any) -> ort.OrtValue:
            return ort.OrtValue.ortvalue_from_shape_and_type([size, *shape], kind, device, device_id)

        host = np.zeros((size, *spec.input_shape), spec.input_type)
        given = on_device(spec.input_shape, host.dtype)
        outputs = [on_device(output.shape[1:], output.dtype) for output in one]
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._session.get_inputs()[0].name, given)
        for name, output in zip(spec.outputs, outputs, strict=True):
            binding.bind_ortvalue_output(name, output)
        return _Buffers(host, given, outputs, binding)


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4, ... below `most`, and `most`."""
    return [*(2**power for power in range((most - 1).bit_length())), most]
