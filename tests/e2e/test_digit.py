"""The digit model over REST: every form of request."""

from __future__ import annotations

import base64

import httpx
import pytest

from tests.paths import ROOT

URL = "/predictions/digit"


def test_an_image_and_a_sample(rest: httpx.Client) -> None:
    photo = (ROOT / "export" / "specs" / "digit.jpg").read_bytes()
    reply = rest.post(URL, content=photo)
    assert reply.status_code == 200
    assert set(reply.json()) == {"digit", "confidence", "probabilities"}
    assert reply.json()["digit"] == 4
    assert rest.post(URL, files={"data": ("4.jpg", photo)}).json() == reply.json()
    for add_noise in (False, True):
        sample = rest.post(URL, json={"index": 100, "add_noise": add_noise}).json()
        image = base64.b64decode(sample.pop("image"), validate=True)
        label = sample.pop("label")
        assert sample["digit"] == label
        assert rest.post(URL, content=image).json() == sample  # what is shown is what was read


@pytest.mark.parametrize("index", [0, 101])
def test_a_sample_that_is_not_there(rest: httpx.Client, index: int) -> None:
    reply = rest.post(URL, json={"index": index, "add_noise": False})
    assert reply.status_code == 422
    assert reply.json()["error"]["message"] == "'index' must be a whole number from 1 to 100"
