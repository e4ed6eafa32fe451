"""The models of movements on a real TorchServe: drags of people and of programs, features alone, reasons, refusals."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import numpy as np
import pytest

from handlers.recordings import read_recording
from handlers.trajectory import NAMES, Trajectory, features
from tests.e2e.server import Server
from tests.paths import SHARED_DATA
from training.bots import FAMILIES, synthesise

DRAG, TICKET = "/predictions/drag_pattern", "/predictions/ticket_slice"
LINE = Trajectory(np.linspace(100, 500, 40), np.linspace(300, 340, 40), np.linspace(0, 640, 40))


def compact(movement: Trajectory) -> dict[str, Any]:
    return {axis: getattr(movement, axis).tolist() for axis in "xyt"}


def listed(movement: Trajectory) -> dict[str, Any]:
    columns = zip(movement.x.tolist(), movement.y.tolist(), movement.t.tolist(), strict=True)
    return {"points": [{"x": x, "y": y, "t": t} for x, y, t in columns]}


def test_a_programs_line_is_a_bots(rest: httpx.Client) -> None:
    reply = rest.post(DRAG, json=listed(LINE)).json()
    assert reply["label"] == "bot"
    assert 0 <= reply["score"] < reply["threshold"]
    anomaly = rest.post(TICKET, json=compact(LINE)).json()
    assert anomaly == {"anomaly": anomaly["anomaly"], "flagged": True, "threshold": anomaly["threshold"]}


def test_both_forms_and_the_features_alone_give_the_same_answer(rest: httpx.Client) -> None:
    values = dict(zip(NAMES, features([LINE])[0].tolist(), strict=True))
    replies = [rest.post(DRAG, json=form).json() for form in (listed(LINE), compact(LINE), {"features": values})]
    assert replies[0] == replies[1] == replies[2]


def test_reasons(rest: httpx.Client) -> None:
    asked = rest.post(DRAG, json=compact(LINE) | {"explain": True}).json()
    explained = rest.post("/explanations/drag_pattern", json=compact(LINE)).json()
    assert asked == explained
    assert len(explained["explanation"]) == 5
    assert {reason["feature"] for reason in explained["explanation"]} <= set(NAMES)
    assert "explanation" not in rest.post(DRAG, json=compact(LINE)).json()


def test_nothing_explains_a_photograph(rest: httpx.Client, photo: bytes) -> None:
    assert rest.post("/explanations/captcha_image", content=photo).status_code == 422


@pytest.mark.parametrize("path", [DRAG, TICKET])
@pytest.mark.parametrize(
    "change",
    [{"t": [0.0] * 39 + [-1.0]}, {"x": [math.nan] * 40}, {"x": [math.inf] * 40}, {"y": [1e9] * 40}, {"x": [1.0]}],
)
def test_wrong_movements_are_refused(rest: httpx.Client, path: str, change: dict[str, Any]) -> None:
    body = json.dumps(compact(LINE) | change)  # Python's writes NaN and Infinity, which httpx would refuse
    reply = rest.post(path, content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid_content")


def test_several_at_once(rest: httpx.Client) -> None:
    body = {"instances": [compact(LINE), {"x": [], "y": [], "t": []}, listed(LINE)]}
    first, wrong, last = rest.post(DRAG, json=body).json()["predictions"]
    assert first == last
    assert wrong["error"]["code"] == "invalid_content"


def test_workers_without_images_stay_small(server: Server) -> None:
    """85 MB is the goal; what a worker has mapped of the libraries differs a little between machines."""
    for name in ("drag_pattern", "ticket_slice"):
        workers = httpx.get(f"{server.management}/models/{name}").json()[0]["workers"]
        for worker in workers:
            assert worker["memoryUsage"] == 0 or worker["memoryUsage"] < 100 * 2**20


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the recordings are not part of the repository")
def test_recorded_drags_are_peoples_and_their_bots_are_not(rest: httpx.Client, recordings: list[Trajectory]) -> None:
    random = np.random.default_rng(0)
    people = rest.post(DRAG, json={"instances": [compact(one) for one in recordings]}).json()["predictions"]
    assert np.mean([reply["label"] == "human" for reply in people]) > 0.9
    for family in FAMILIES:
        bots = [compact(synthesise(family, one, random)) for one in recordings]
        replies = rest.post(DRAG, json={"instances": bots}).json()["predictions"]
        assert np.mean([reply["label"] == "bot" for reply in replies]) > 0.5, family


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Trajectory]:
    import tarfile

    folder = tmp_path_factory.mktemp("mouse")
    with tarfile.open(SHARED_DATA / "mouse.tar.gz") as archive:
        archive.extractall(folder, filter="data", members=[m for m in archive if "sessions/user1" in m.name])
    drags = [drag for path in sorted(folder.rglob("*.csv")) for drag in read_recording(path)]
    return drags[:60]
