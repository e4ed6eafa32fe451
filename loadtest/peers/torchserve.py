"""TorchServe as it is installed: a handler on its BaseHandler, which loads the ONNX file as it does by default."""

from __future__ import annotations

from typing import Any

import numpy as np
from ts.torch_handler.base_handler import BaseHandler

from handlers import payload
from handlers.tasks import Item
from loadtest.peers.common import task_of


class ModelHandler(BaseHandler):
    def initialize(self, context: Any) -> None:
        super().initialize(context)
        self.task = task_of(context.manifest["model"]["modelName"])

    def preprocess(self, data: list[dict[str, Any]]) -> list[Item]:
        instances: list[Any] = [payload.parse(row).instances[0] for row in data]
        return list(self.task.gather([self.task.decode(instance) for instance in instances]))

    def inference(self, data: list[Item]) -> list[tuple[Item, dict[str, Any]]]:
        (source,) = self.model.get_inputs()
        arrays: list[Any] = [item.array for item in data]
        outputs = self.model.run(None, {source.name: np.stack(arrays)})
        names = [output.name for output in self.model.get_outputs()]
        rows = zip(*outputs, strict=True)
        return [(item, dict(zip(names, row, strict=True))) for item, row in zip(data, rows, strict=True)]

    def postprocess(self, data: list[tuple[Item, dict[str, Any]]]) -> list[dict[str, Any]]:
        return [self.task.encode(item, row) for item, row in data]
