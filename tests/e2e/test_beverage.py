"""A question about an image: whatever way a request's own threshold comes, it decides whether the answer is valid."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import orjson
import pytest

from marserve.protos import inference_pb2, inference_pb2_grpc
from tests.e2e.edge import Edge, edging
from tests.e2e.server import Server
from tests.paths import ROOT

URL = "/predictions/beverage"
DRINK = (ROOT / "export" / "specs" / "beverage.jpg").read_bytes()
WRONG = "'confidence_threshold' must be a number from 0 to 1, as in 0.7"


@pytest.fixture(scope="module")
def edge(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edging(server, tmp_path_factory.mktemp("edge"), {}) as running:
        yield running


@pytest.fixture(params=["server", "edge"])
def client(request: pytest.FixtureRequest, rest: httpx.Client) -> Iterator[httpx.Client]:
    """The server itself, and the edge before it, which lower-cases the names of headers."""
    if request.param == "server":
        yield rest
    else:
        with httpx.Client(base_url=request.getfixturevalue("edge").url, timeout=30) as behind:
            yield behind


def over_grpc(address: str, **inputs: bytes) -> dict[str, Any]:
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = inference_pb2_grpc.InferenceAPIsServiceStub(channel)
        request = inference_pb2.PredictionsRequest(model_name="beverage", input=inputs)
        reply: dict[str, Any] = orjson.loads(stub.Predictions(request, timeout=30).prediction)
    return reply


def test_a_drink(client: httpx.Client) -> None:
    reply = client.post(URL, content=DRINK)
    body = reply.json()
    assert reply.status_code == 200
    assert list(body) == ["has_beverage", "confidence", "predicted_class", "is_valid", "probabilities", "message"]
    assert (body["has_beverage"], body["predicted_class"], body["is_valid"]) == (True, "with_beverage", True)
    assert body["message"] == "There is a drink in the vessel."
    assert 0.7 <= body["confidence"] < 1


def test_a_threshold_in_every_place(client: httpx.Client) -> None:
    sure, unsure = "0.5", "1"
    encoded = base64.b64encode(DRINK).decode()
    for threshold, valid in ((sure, True), (unsure, False)):
        number, field = float(threshold), {"confidence_threshold": threshold}
        other = unsure if valid else sure
        header, against = {"X-Confidence-Threshold": threshold}, {"X-CONFIDENCE-THRESHOLD": other}
        replies = [
            client.post(URL, json={"data": encoded, "confidence_threshold": number}),
            client.post(URL, files={"data": ("glass.jpg", DRINK)}, data=field),
            client.post(URL, content=DRINK, headers=header),
            # The nearer place goes before the farther one.
            client.post(URL, files={"data": DRINK}, data=field, headers=against),
            client.post(URL, json={"data": encoded, "confidence_threshold": number}, headers=against),
        ]
        for reply in replies:
            assert (reply.status_code, reply.json()["is_valid"]) == (200, valid)
            assert reply.json()["has_beverage"] is True
    several = {"instances": [{"data": encoded, "confidence_threshold": 1}, encoded]}
    first, second = client.post(URL, json=several, headers={"X-Confidence-Threshold": "0.2"}).json()["predictions"]
    assert (first["is_valid"], second["is_valid"]) == (False, True)


@pytest.mark.parametrize("threshold", ["1.5", "-0.1", "NaN", "high", ""])
def test_wrong_thresholds(client: httpx.Client, threshold: str) -> None:
    for reply in (
        client.post(URL, content=DRINK, headers={"X-Confidence-Threshold": threshold}),
        client.post(URL, files={"data": DRINK}, data={"confidence_threshold": threshold}),
    ):
        assert reply.status_code == 422
        assert reply.json()["error"] == {"code": "invalid_content", "message": WRONG}


def test_unknown_fields(rest: httpx.Client) -> None:
    reply = rest.post(URL, files={"data": DRINK}, data={"threshold": "0.5"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid_content")
    assert "unknown fields 'threshold'; known: confidence_threshold" in reply.text
    reply = rest.post(URL, json={"data": "", "treshold": 0.5})
    assert "unknown fields 'treshold'; known: data, confidence_threshold" in reply.text


def test_over_grpc(server: Server, edge: Edge) -> None:
    for address in (server.grpc, edge.grpc):
        assert over_grpc(address, data=DRINK)["is_valid"] is True
        assert over_grpc(address, data=DRINK, confidence_threshold=b"0.5")["is_valid"] is True
        assert over_grpc(address, data=DRINK, confidence_threshold=b"1")["is_valid"] is False
        assert over_grpc(address, data=DRINK, confidence_threshold=b"2")["error"]["message"] == WRONG
