"""What passes the edge, what it refuses and how, over gRPC: with statuses that clients understand."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.empty_pb2 import Empty

from loadtest.bench.processes import free_port
from marserve.protos import inference_pb2, inference_pb2_grpc
from tests.e2e.edge import Edge, edging
from tests.e2e.server import Server

SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService"


@pytest.fixture(scope="module")
def edge(pupil: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    model = {"in_flight": 1, "queue": 2, "queue_seconds": 1, "reply_seconds": 3}
    settings = {"limits": {"body_bytes": 2**20, "body_seconds": 2}, "model": model}
    with edging(pupil, tmp_path_factory.mktemp("edge"), settings) as running:
        yield running


@pytest.fixture
def channel(edge: Edge) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(edge.grpc) as opened:
        yield opened


def predict(channel: grpc.Channel, data: bytes, model: str = "pupil", **options: Any) -> bytes:
    stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)
    request = inference_pb2.PredictionsRequest(model_name=model, input={"data": data})
    reply: bytes = stub.Predictions(request, timeout=30, **options).prediction
    return reply


def failure(ask: Callable[[], object]) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.RpcError) as caught:
        ask()
    return caught.value.code(), caught.value.details()


def code(ask: Callable[[], object]) -> grpc.StatusCode:
    return failure(ask)[0]


def test_what_passes(channel: grpc.Channel) -> None:
    assert predict(channel, b"hello") == b'{"word": "hello"}'
    assert predict(channel, b"x " + bytes(2**20 - 100)) == b'{"word": "x"}'
    stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)
    assert "Healthy" in stub.Ping(Empty()).health
    assert predict(channel, b"hello", compression=grpc.Compression.Gzip) == b'{"word": "hello"}'


@pytest.mark.parametrize(
    "method",
    [
        f"{SERVICE}/StreamPredictions2",
        f"{SERVICE}/Other",
        "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels",
        "/org.pytorch.serve.grpc.openinference.GRPCInferenceService/ServerLive",
    ],
)
def test_other_methods_are_not_there(channel: grpc.Channel, method: str) -> None:
    call = channel.unary_unary(method, request_serializer=lambda data: data, response_deserializer=lambda data: data)
    assert code(lambda: call(b"", timeout=10)) == grpc.StatusCode.UNIMPLEMENTED


def test_a_model_that_is_not_there(channel: grpc.Channel) -> None:
    assert code(lambda: predict(channel, b"x", "nobody")) == grpc.StatusCode.NOT_FOUND


def test_more_than_the_limits(channel: grpc.Channel) -> None:
    status, details = failure(lambda: predict(channel, bytes(2**20 + 1)))
    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details == "a request may have 1048576 bytes at most"
    large = [("x-large", "a" * 7500)]
    assert code(lambda: predict(channel, b"x", metadata=large)) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_full_queue_is_told_at_once(channel: grpc.Channel) -> None:
    with ThreadPoolExecutor(12) as pool:

        def ask(data: bytes) -> tuple[str, float]:
            began = time.monotonic()
            try:
                predict(channel, data)
            except grpc.RpcError as error:
                return error.code().name, time.monotonic() - began
            return "OK", time.monotonic() - began

        busy = pool.submit(ask, b"sleep 2.5")
        time.sleep(0.5)
        others = list(pool.map(ask, [b"x"] * 10))
        assert busy.result()[0] == "OK"
    assert Counter(status for status, _ in others) == {"RESOURCE_EXHAUSTED": 10}
    assert len([seconds for _, seconds in others if seconds > 0.9]) == 2


def test_no_answer_in_time(channel: grpc.Channel) -> None:
    assert code(lambda: predict(channel, b"sleep 4")) == grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(1.5)  # until the worker is free again


def test_a_worker_that_dies(channel: grpc.Channel, tmp_path: Path) -> None:
    assert predict(channel, f"exit-once {tmp_path / 'it-did'}".encode()) == b'{"word": "exit-once"}'
    assert code(lambda: predict(channel, b"die", "other")) == grpc.StatusCode.UNAVAILABLE


def test_no_server(tmp_path: Path) -> None:
    with edging(free_port(), tmp_path, {}) as edge, grpc.insecure_channel(edge.grpc) as channel:
        assert "does not answer yet" in edge.summary
        assert code(lambda: predict(channel, b"x")) == grpc.StatusCode.UNAVAILABLE
        replies = [httpx.get(f"{edge.url}/health"), httpx.post(f"{edge.url}/predictions/pupil", content=b"x")]
        for reply in replies:
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unavailable")
            assert reply.headers["retry-after"] == "1"


def test_the_request_id_comes_back_with_the_metadata(channel: grpc.Channel) -> None:
    stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)
    request = inference_pb2.PredictionsRequest(model_name="pupil", input={"data": b"x"})
    _, call = stub.Predictions.with_call(request, metadata=[("x-request-id", "mine")], timeout=10)
    assert ("x-request-id", "mine") in call.initial_metadata()
