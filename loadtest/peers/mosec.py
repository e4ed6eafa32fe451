"""mosec: a route for each model, with dynamic batching and a worker process per core."""

from __future__ import annotations

import os

from mosec import Runtime, Server, Worker

from loadtest.peers.common import NAMES, WORKERS, Model, batching


class Predict(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model(os.environ["MODEL"])

    def deserialize(self, data: bytes) -> bytes:
        return data  # the model decodes: a stage of its own for that helps where there are more cores

    def forward(self, data: list[bytes]) -> list[bytes]:
        return self.model(data)

    def serialize(self, data: bytes) -> bytes:
        return data


def runtime(name: str) -> Runtime:
    batch, wait = batching(name)
    environment = [{"MODEL": name}] * WORKERS
    return Runtime(Predict, num=WORKERS, max_batch_size=batch, max_wait_time=wait, timeout=30, env=environment)


if __name__ == "__main__":
    server = Server()
    server.register_runtime({f"/predictions/{name}": [runtime(name)] for name in NAMES})
    server.run()
