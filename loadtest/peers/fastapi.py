"""FastAPI behind uvicorn with a process per core, without batching: what most people write first.

The network runs in the event loop: handing it to a thread costs more than it gives where processes share the cores.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response

from loadtest.peers.common import HOST, NAMES, PORT, WORKERS, Model

models: dict[str, Model] = {}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    models.update({name: Model(name) for name in NAMES})
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/predictions/{name}")
async def predict(name: str, request: Request) -> Response:
    (answer,) = models[name]([await request.body()])
    return Response(answer, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run("loadtest.peers.fastapi:app", host=HOST, port=PORT, workers=WORKERS, access_log=False)
