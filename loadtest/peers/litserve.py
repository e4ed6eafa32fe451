"""LitServe: an API for each model, with batching, a worker process per core and its faster (ZeroMQ) queue."""

# No `from __future__ import annotations`: LitServe hands the annotation of `request` to FastAPI.
from typing import Annotated, Any

import litserve as ls
from fastapi import Depends, Request, Response

from loadtest.peers.common import HOST, NAMES, PORT, WORKERS, Model, batching


async def body(request: Request) -> bytes:
    return await request.body()


class Predict(ls.LitAPI):
    def __init__(self, name: str) -> None:
        batch, wait = batching(name)
        super().__init__(max_batch_size=batch, batch_timeout=wait / 1000, api_path=f"/predictions/{name}")
        self.name = name

    def setup(self, device: Any) -> None:  # noqa: ARG002
        self.model = Model(self.name)

    def decode_request(self, request: Annotated[bytes, Depends(body)]) -> bytes:
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, x: list[bytes]) -> list[bytes]:
        return self.model(x)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/json")


if __name__ == "__main__":
    apis = [Predict(name) for name in NAMES]
    server = ls.LitServer(apis, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(host=HOST, port=PORT, num_api_servers=WORKERS, generate_client_file=False, log_level="warning")
