"""What clients send over REST, and what they get."""

from __future__ import annotations

import base64
import io
import json
import math
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from tests.e2e.server import Server

IMAGE = "/predictions/captcha_image"
JSON = {"content-type": "application/json"}


def check_prediction(body: dict[str, object]) -> None:
    probabilities = body["probabilities"]
    assert isinstance(probabilities, dict)
    assert set(probabilities) == {"animal", "object"}
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert body["label"] == max(probabilities, key=probabilities.__getitem__)
    assert body["confidence"] == max(probabilities.values())


def test_every_payload_form_gets_the_same_answer(rest: httpx.Client, photo: bytes) -> None:
    encoded = base64.b64encode(photo).decode()
    raw = rest.post(IMAGE, content=photo, headers={"content-type": "image/jpeg"})
    assert raw.status_code == 200
    assert raw.headers["content-type"] == "application/json"
    check_prediction(raw.json())
    others = [
        rest.put(IMAGE, content=photo),
        *(rest.post(IMAGE, files={field: ("photo.jpg", photo)}) for field in ("data", "file", "body")),
        rest.post(IMAGE, json={"data": encoded}),
        rest.post(IMAGE, json={"b64": encoded}),
        rest.post(IMAGE, json={"data": f"data:image/jpeg;base64,{encoded}"}),
    ]
    for other in others:
        assert other.json() == raw.json()
    several = rest.post(IMAGE, json={"instances": [{"data": encoded}, encoded]}).json()
    assert several == {"predictions": [raw.json(), raw.json()]}


def test_the_photograph_of_a_cat_is_an_animal(rest: httpx.Client, photo: bytes) -> None:
    assert rest.post(IMAGE, content=photo).json()["label"] == "animal"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_formats(rest: httpx.Client, photo: bytes, kind: str) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(photo)).save(buffer, kind)
    reply = rest.post(IMAGE, content=buffer.getvalue())
    assert reply.status_code == 200
    check_prediction(reply.json())


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"not an image", {}, 415, "unsupported_type"),
        (b"GIF89a" + bytes(100), {}, 415, "unsupported_type"),
        (b"\xff\xd8\xff" + bytes(100), {}, 400, "undecodable"),
        (b"{not json", JSON, 400, "undecodable"),
        (b'{"data": NaN}', JSON, 422, "invalid_content"),
        (b'{"data": "!"}', JSON, 400, "undecodable"),
        (b"[" * 100_000, JSON, 400, "undecodable"),
        (b"[1]", JSON, 422, "invalid_content"),
        (b"{}", JSON, 422, "invalid_content"),
        (b'{"instances": []}', JSON, 422, "invalid_content"),
        (json.dumps({"instances": ["x"] * 101}).encode(), JSON, 413, "too_large"),
        (b'{"random": true, "group": "../../etc"}', JSON, 422, "invalid_content"),
        (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 422, "invalid_content"),
    ],
)
def test_bad_input_has_its_own_status(
    rest: httpx.Client, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    reply = rest.post(IMAGE, content=content, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_an_image_of_too_many_pixels_is_refused_undecoded(rest: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    reply = rest.post(IMAGE, content=buffer.getvalue())
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")


def test_a_request_may_have_16_mb_and_not_more(rest: httpx.Client, photo: bytes) -> None:
    assert rest.post(IMAGE, content=photo + bytes(15 * 2**20)).status_code == 200  # what follows the picture is ignored
    assert rest.post(IMAGE, content=bytes(17 * 2**20)).status_code == 413


def test_every_second_request_garbage_the_others_get_their_answers(server: Server, photo: bytes) -> None:
    def send(index: int) -> int:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            reply = client.post(IMAGE, content=photo if index % 2 else b"\xff\xd8\xffgarbage")
            assert ("label" in reply.json()) == bool(index % 2)
            return reply.status_code

    with ThreadPoolExecutor(16) as threads:  # so many at once that batches mix both kinds
        statuses = list(threads.map(send, range(64)))
    assert statuses == [400, 200] * 32


def test_errors_among_instances_stay_with_their_instance(rest: httpx.Client, photo: bytes) -> None:
    good = base64.b64encode(photo).decode()
    reply = rest.post(IMAGE, json={"instances": [good, "", 7, {"data": "AAAA"}, good]})
    assert reply.status_code == 200
    predictions = reply.json()["predictions"]
    assert ["error" in p for p in predictions] == [False, True, True, True, False]
    assert predictions[0] == predictions[4]


def test_a_random_image_of_the_pool_comes_with_its_classification(rest: httpx.Client) -> None:
    body = rest.post(IMAGE, json={"random": True, "group": "object"}).json()
    check_prediction(body)
    assert body["image"]["group"] == "object"
    assert Image.open(io.BytesIO(base64.b64decode(body["image"]["data"]))).format == "JPEG"


def test_an_embedding_has_length_1_and_is_always_the_same(rest: httpx.Client, photo: bytes) -> None:
    reply = rest.post("/predictions/image_embedding", content=photo)
    body = reply.json()
    assert (reply.status_code, list(body), body["dim"]) == (200, ["embedding", "dim"], 1280)
    assert math.hypot(*body["embedding"]) == pytest.approx(1, abs=1e-5)
    encoded = base64.b64encode(photo).decode()
    several = rest.post("/predictions/image_embedding", json={"instances": [encoded, "!"]}).json()["predictions"]
    assert several[0]["embedding"] == pytest.approx(body["embedding"], abs=1e-5)
    assert several[1]["error"]["code"] == "undecodable"


def test_metrics_are_there(server: Server, rest: httpx.Client, photo: bytes) -> None:
    rest.post(IMAGE, content=photo)
    text = httpx.get(f"{server.metrics}/metrics").text
    assert 'ts_inference_requests_total{model_name="captcha_image"' in text


def test_challenge(rest: httpx.Client) -> None:
    request = {"kind": "drag_drop", "count": 8, "group": "animal"}
    body = rest.post("/predictions/captcha_challenge", json=request).json()
    assert body["groups"] == ["animal", "object"]
    assert body["pool"]["size"] == sum(body["pool"]["groups"].values())
    groups = [image["group"] for image in body["images"]]
    assert len(groups) == 8
    assert min(groups.count("animal"), groups.count("object")) >= 2
    pictures = {image["data"] for image in body["images"]}
    assert len(pictures) == len({image["id"] for image in body["images"]}) == 8
    for data in pictures:
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.format == "JPEG"
        assert not picture.getexif()


@pytest.mark.parametrize("wrong", [{"kind": "x"}, {"count": 3}, {"count": True}, {"group": "plant"}, {"other": 1}])
def test_wrong_challenges_are_refused(rest: httpx.Client, wrong: dict[str, object]) -> None:
    reply = rest.post("/predictions/captcha_challenge", json={"kind": "drag_drop"} | wrong)
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid_content")
