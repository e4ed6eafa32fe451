"""TorchServe as it is installed: a handler on its BaseHandler, which loads the ONNX file as it does by default."""

from __future__ import annotations

from typing import Any

import numpy as np
from ts.torch_handler.base_handler import BaseHandler

from loadtest.peers.common import task_of
from handlers import payload
from handlers.tasks import Item


class ModelHandler(BaseHandler):
    def initialize(self, context: Any) -> None:
        super().initialize(context)
        self.task = task_of(context.manifest["model"]["modelName"])

    def preprocess(self, data: list[dict[str, Any]]) -> list[Item]:
        instances = [payload.parse(row).instances[0] for row in data]
        return list(self.task.gather([self.task.decode(instance) for instance in instances]))

    def inference(self, data: list[Item], *args: Any, **kwargs: Any) -> list[tuple[Item, dict[str, Any]]]:  # noqa: ARG002
        (source,) = self.model.get_inputs()
        outputs = self.model.run(None, {source.name: np.stack([item.array for item in data])})
        names = [output.name for output in self.model.get_outputs()]
        return [(item, dict(zip(names, row))) for item, row in zip(data, zip(*outputs))]

    def postprocess(self, data: list[tuple[Item, dict[str, Any]]]) -> list[dict[str, Any]]:
        return [self.task.encode(item, row) for item, row in data]
