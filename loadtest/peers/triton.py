"""Triton: the model.py of its Python backend, in a process per core.

Its HTTP protocol wraps bodies into tensors of one element; the binary extension leaves their bytes as they are.
"""

from __future__ import annotations

import os
import sys
from typing import Any

sys.path += os.environ["PYTHONPATH"].split(os.pathsep)  # the Python inside of Triton's stub does not read it

import numpy as np
import triton_python_backend_utils as pb_utils

from loadtest.peers.common import Model


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.model = Model(args["model_name"])

    def execute(self, requests: list[Any]) -> list[Any]:
        bodies = [pb_utils.get_input_tensor_by_name(request, "body").as_numpy().item() for request in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("answer", np.array([[answer]], np.object_))])
            for answer in self.model(bodies)
        ]
