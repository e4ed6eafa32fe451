"""The model that hides faces: images, JSON and errors over REST and gRPC, directly and through the edge."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from marserve.client import GrpcClient
from tests.e2e.edge import edging
from tests.e2e.server import MARSERVE, Server
from tests.images import encode, photo
from tests.paths import FACE, ROOT

URL = "/predictions/face_mosaic"
DATA = FACE.read_bytes()
NO_FACE = encode(photo(90, 120), "JPEG")


@pytest.fixture(scope="module")
def through_the_edge(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        edging(server, tmp_path_factory.mktemp("edge"), {}) as edge,
        httpx.Client(base_url=edge.url, timeout=30) as client,
    ):
        yield client


@pytest.fixture(params=["rest", "through_the_edge"])
def client(request: pytest.FixtureRequest) -> httpx.Client:
    found: httpx.Client = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("*/*", "jpeg"), ("image/jpeg", "jpeg"), ("image/png", "png"), ("image/png;q=0.5, image/*", "jpeg")],
)
def test_images(client: httpx.Client, accept: str, kind: str) -> None:
    reply = client.post(URL, content=DATA, headers={"accept": accept})
    assert (reply.status_code, reply.headers["content-type"]) == (200, f"image/{kind}")
    assert reply.headers["x-face-count"] == "1"
    ((x, y, width, height),) = json.loads(reply.headers["x-face-boxes"])
    sent, got = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) for data in (DATA, reply.content))
    assert got.shape == sent.shape
    changed = np.abs(got - sent).mean(axis=2)
    assert changed[y : y + height, x : x + width].mean() > 10
    assert changed[-60:].mean() < 4  # far from the face


def test_json_and_errors(client: httpx.Client) -> None:
    shown = client.post(URL, content=DATA)
    asked = client.post(URL, content=DATA, headers={"accept": "application/json"})
    assert (asked.status_code, asked.headers["content-type"]) == (200, "application/json")
    assert "x-face-count" not in asked.headers
    body = asked.json()
    assert body["faces"] == json.loads(shown.headers["x-face-boxes"])
    assert base64.b64decode(body["image"]) == shown.content
    several = client.post(URL, json={"instances": [base64.b64encode(DATA).decode()]}, headers={"accept": "image/png"})
    assert several.json()["predictions"] == [body]
    for accept in ("*/*", "image/png", "application/json"):
        refused = client.post(URL, content=NO_FACE, headers={"accept": accept})
        assert (refused.status_code, refused.headers["content-type"]) == (422, "application/json")
        assert refused.json()["error"]["code"] == "no_face"
    unknown = client.post(URL, content=DATA, headers={"accept": "text/html"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (406, "not_acceptable")
    assert "image/jpeg, image/png, application/json" in unknown.json()["error"]["message"]


def test_other_models_reply_in_json_whatever_is_asked_for(rest: httpx.Client, photo: bytes) -> None:
    reply = rest.post("/predictions/captcha_image", content=photo, headers={"accept": "image/png"})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json()["label"] == "animal"


def test_over_grpc_it_is_json(server: Server, rest: httpx.Client) -> None:
    with GrpcClient(server.grpc) as client:
        answer = client.predict("face_mosaic", DATA)
        assert answer.body == rest.post(URL, content=DATA, headers={"accept": "application/json"}).json()
        assert client.predict("face_mosaic", NO_FACE).error.startswith("no_face: ")


def test_a_large_picture_and_one_whose_reply_would_be_too_large(rest: httpx.Client) -> None:
    """Noise in a JPEG of little quality: as a PNG it has more bytes than TorchServe takes."""
    pixels = np.random.default_rng(0).integers(0, 256, (3600, 3600, 3), np.uint8)
    pixels[100:1540, 100:1380] = np.asarray(Image.open(FACE).resize((1280, 1440)))
    data = encode(pixels, "JPEG", quality=60)
    reply = rest.post(URL, content=data)
    assert (reply.status_code, Image.open(io.BytesIO(reply.content)).size) == (200, (3600, 3600))
    refused = rest.post(URL, content=data, headers={"accept": "image/png"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
    assert rest.post(URL, content=DATA).status_code == 200


def test_predict_writes_the_image(server: Server, tmp_path: Path) -> None:
    command = [*MARSERVE, "predict", "face_mosaic", str(FACE), "--url", server.url, "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    written = tmp_path / "face_mosaic_face_mosaic.jpeg"
    with Image.open(written) as opened:
        assert (opened.format, opened.size) == ("JPEG", (320, 360))
