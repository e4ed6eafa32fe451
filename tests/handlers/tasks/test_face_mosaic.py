"""A photograph with a face, as it is answered in each of the three types."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handlers import image, pipeline, reply
from handlers.accept import JSON
from handlers.errors import SpecError
from handlers.faces import Box, mosaic
from handlers.pipeline import Pipeline, Wish
from handlers.reply import Reply
from handlers.spec import HandlerSpec, LimitsSpec, NetworkSpec
from handlers.tasks import build_task
from handlers.tasks.face_mosaic import BOXES_HEADER, COUNT_HEADER, MOST_IN_HEADER
from tests.images import ORIENTATION, encode, photo
from tests.paths import CASCADE, FACE

DATA = FACE.read_bytes()
PIXELS = image.decode(DATA)
TEXT = base64.b64encode(DATA).decode()
SPEC = HandlerSpec("face_mosaic", cascade=CASCADE.name)
NO_FACE = encode(photo(120, 160), "PNG")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a few pictures take longer than a request with several may."""
    monkeypatch.setattr(pipeline, "REQUEST_SECONDS", 60)


@pytest.fixture(scope="module")
def model() -> Pipeline:
    return Pipeline.load(CASCADE.parent, SPEC)


def ask(model: Pipeline, body: Any, accept: str | None = None, explain: bool = False) -> Reply:
    (reply,) = model([{"body": body}], [Wish(explain, accept)])
    return reply


def error(reply: Reply) -> tuple[int, str]:
    assert (reply.media_type, reply.headers) == (JSON, ())
    return int(reply.status), json.loads(reply.body)["error"]["code"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [(None, "JPEG"), ("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/webp, */*;q=0.1", "JPEG")],
)
@pytest.mark.parametrize("body", [DATA, {"data": TEXT}, {"b64": TEXT, "image": True}])
def test_an_image_with_its_faces_hidden(model: Pipeline, body: Any, accept: str | None, kind: str) -> None:
    reply = ask(model, body, accept)
    assert (reply.status, reply.media_type) == (200, f"image/{kind.lower()}")
    headers = dict(reply.headers)
    boxes = [Box(*box) for box in json.loads(headers[BOXES_HEADER])]
    assert headers[COUNT_HEADER] == str(len(boxes)) == "1"
    with Image.open(io.BytesIO(reply.body)) as opened:
        assert (opened.format, opened.size) == (kind, PIXELS.shape[1::-1])
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    difference = np.abs(pixels - mosaic(PIXELS, boxes))
    assert difference.mean() < (3 if kind == "JPEG" else 1e-9)
    x, y, width, height = boxes[0]
    face = np.abs(pixels - PIXELS)[y : y + height, x : x + width]
    assert face.mean() > 10


def test_json_has_boxes_and_the_image(model: Pipeline) -> None:
    reply = ask(model, DATA, JSON)
    assert (reply.status, reply.media_type, reply.headers) == (200, JSON, ())
    answer = json.loads(reply.body)
    assert list(answer) == ["faces", "media_type", "image"]
    shown = ask(model, DATA)
    assert base64.b64decode(answer["image"], validate=True) == shown.body
    assert answer["media_type"] == shown.media_type
    assert json.dumps(answer["faces"], separators=(",", ":")) == dict(shown.headers)[BOXES_HEADER]
    boxes_alone = ask(model, {"data": TEXT, "image": False}, JSON)
    assert json.loads(boxes_alone.body) == {"faces": answer["faces"]}


def test_several_instances_are_answered_in_json(model: Pipeline) -> None:
    """Whatever the header says; each has its own error."""
    none = base64.b64encode(NO_FACE).decode()
    body = {"instances": [TEXT, none, {"data": TEXT, "image": False}, {"data": TEXT, "explain": True}]}
    for accept in (None, "image/png", "text/html"):
        reply = ask(model, body, accept)
        assert (reply.status, reply.media_type) == (200, JSON)
        found, nothing, boxes, explained = json.loads(reply.body)["predictions"]
        assert set(found) == {"faces", "media_type", "image"}
        assert nothing["error"]["code"] == "no_face"
        assert boxes == {"faces": found["faces"]}
        assert explained["error"]["code"] == "invalid_content"


def test_what_is_refused(model: Pipeline) -> None:
    for accept in (None, "image/png", JSON):
        assert error(ask(model, NO_FACE, accept)) == (422, "no_face")
        assert error(ask(model, b"GIF89a", accept)) == (415, "unsupported_type")
        assert error(ask(model, DATA[:-100], accept)) == (400, "undecodable")
        assert error(ask(model, DATA, accept, explain=True)) == (422, "invalid_content")
    assert error(ask(model, DATA, "text/html")) == (406, "not_acceptable")
    assert error(ask(model, {"data": TEXT, "image": False})) == (422, "invalid_content")  # nothing to send as a JPEG
    for wrong in ({"image": 1}, {"image": None}, {"cells": 4}, {"image": "no"}):
        assert error(ask(model, {"data": TEXT, **wrong}, JSON)) == (422, "invalid_content")
    assert error(ask(model, {}, JSON)) == (422, "invalid_content")


def test_requests_of_a_batch_have_their_own_types(model: Pipeline) -> None:
    wishes = [Wish(accept="image/png"), Wish(accept="text/html"), Wish(), Wish(accept=JSON)]
    replies = model([{"body": DATA}, {"body": DATA}, {}, {"body": DATA}], wishes)
    assert [reply.media_type for reply in replies] == ["image/png", JSON, JSON, JSON]
    assert [int(reply.status) for reply in replies] == [200, 406, 422, 200]


def test_nothing_of_the_file_but_its_pixels_is_sent(model: Pipeline) -> None:
    """A camera's EXIF block has the place, and a small picture with the face in it."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "secret maker"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    turned = Image.fromarray(np.rot90(PIXELS, 1).copy())
    data = encode(turned, "JPEG", exif=exif, comment=b"secret comment", quality=95)
    for accept in ("image/jpeg", "image/png"):
        reply = ask(model, data, accept)
        assert b"secret" not in reply.body
        assert b"Exif" not in reply.body
        with Image.open(io.BytesIO(reply.body)) as opened:
            assert opened.size == PIXELS.shape[1::-1]  # upright
            assert not opened.getexif()
            assert set(opened.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_more_boxes_than_a_header_takes(model: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [Box(n, n, 20, 20) for n in range(MOST_IN_HEADER + 50)]
    monkeypatch.setattr("handlers.faces.Finder.find", lambda *_: boxes)
    headers = dict(ask(model, DATA).headers)
    assert headers[COUNT_HEADER] == "250"
    assert json.loads(headers[BOXES_HEADER]) == list(map(list, boxes[:MOST_IN_HEADER]))
    assert len(json.loads(ask(model, DATA, JSON).body)["faces"]) == 250


def test_limits(tmp_path: Path) -> None:
    small = Pipeline.load(
        CASCADE.parent, HandlerSpec("face_mosaic", cascade=CASCADE.name, limits=LimitsSpec(10**6, 10_000))
    )
    assert error(ask(small, DATA)) == (413, "too_large")


def test_a_reply_that_torchserve_would_not_take(model: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(ask(model, DATA, "image/png").body)
    monkeypatch.setattr(reply, "MAX_REPLY_BYTES", size)
    assert ask(model, DATA, "image/png").status == 200
    monkeypatch.setattr(reply, "MAX_REPLY_BYTES", size - 1)
    assert error(ask(model, DATA, "image/png")) == (413, "too_large")
    assert ask(model, DATA).status == 200
    assert error(ask(model, {"instances": [TEXT] * 9})) == (413, "too_large")


def test_specs_that_do_not_suit(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"needs a handler\.cascade"):
        build_task(HandlerSpec("face_mosaic"), None)
    with pytest.raises(SpecError, match="runs no network"):
        build_task(HandlerSpec("face_mosaic", network=NetworkSpec("model.onnx", (1,)), cascade="c.xml"), None)
    with pytest.raises(SpecError, match="is no cascade"):
        Pipeline.load(tmp_path, SPEC)
