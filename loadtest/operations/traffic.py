"""Which version answers: over REST and gRPC, with and without a session; and steady gRPC beside the steady REST of
`loadtest.reliability.traffic`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc
import httpx

from loadtest.reliability.traffic import PATIENCE, Ask, Seen
from marserve.protos import inference_pb2, inference_pb2_grpc

SESSION = "X-Session-ID"
CLIENTS = 16
FAILED = "failed"


def rest_versions(url: str, ask: Ask, sessions: Sequence[str]) -> list[str]:
    """The version that answered each request of these sessions, an empty one being none."""

    async def run() -> list[str]:
        limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False, limits=limits) as client:

            async def one(session: str) -> str:
                headers = {**ask.headers, SESSION: session} if session else ask.headers
                try:
                    reply = await client.post(ask.path, content=ask.body, headers=headers)
                except httpx.TransportError:
                    return FAILED
                return _version(reply.content) if reply.status_code == 200 else FAILED

            return await _side_by_side(one, sessions)

    return asyncio.run(run())


def grpc_versions(address: str, ask: Ask, sessions: Sequence[str]) -> list[str]:
    """The same over gRPC."""

    async def run() -> list[str]:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)

            async def one(session: str) -> str:
                metadata = ((SESSION.lower(), session),) if session else ()
                try:
                    reply = await stub.Predictions(_message(ask), timeout=PATIENCE, metadata=metadata)
                except grpc.RpcError:
                    return FAILED
                return _version(reply.prediction)

            return await _side_by_side(one, sessions)

    return asyncio.run(run())


def send_grpc(address: str, ask: Ask, clients: int, seconds: float, pause: float = 0.0) -> list[Seen]:
    """As `reliability.traffic.send`, over gRPC; a status that is not OK counts as 0."""

    async def run() -> list[Seen]:
        seen: list[Seen] = []
        async with grpc.aio.insecure_channel(address) as channel:
            stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)
            end = time.monotonic() + seconds

            async def one() -> None:
                while time.monotonic() < end:
                    started = time.perf_counter()
                    try:
                        content = (await stub.Predictions(_message(ask), timeout=PATIENCE)).prediction
                        status = 200
                    except grpc.RpcError as error:
                        content, status = str(error).encode(), 0
                    took = time.perf_counter() - started
                    seen.append(Seen(ask.kind, status, took, ask.is_right(status, content), content))
                    await asyncio.sleep(pause)

            await asyncio.gather(*(one() for _ in range(clients)))
        return seen

    return asyncio.run(run())


async def _side_by_side(one: Callable[[str], Awaitable[str]], sessions: Sequence[str]) -> list[str]:
    """CLIENTS at once; results in the order of the sessions."""
    found = [""] * len(sessions)

    async def some(first: int) -> None:
        for number in range(first, len(sessions), CLIENTS):
            found[number] = await one(sessions[number])

    await asyncio.gather(*map(some, range(CLIENTS)))
    return found


def _message(ask: Ask) -> inference_pb2.PredictionsRequest:
    model = ask.path.rpartition("/")[2]
    return inference_pb2.PredictionsRequest(model_name=model, input={"data": ask.body})


def _version(content: bytes) -> str:
    return str(json.loads(content)["version"])
