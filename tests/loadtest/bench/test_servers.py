from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import pytest

from loadtest.bench import environments
from loadtest.bench.environments import LOCKS, lock_version, make_environment
from loadtest.bench.servers import SERVERS
from loadtest.bench.workloads import Ask
from loadtest.errors import LoadTestError

ROW = Ask("drag_pattern", b'{"features":[1]}', {"score": 0.5})
IMAGE = Ask("captcha_image", b"\xff\xd8\xff a JPEG", {"probabilities": {}})


@pytest.mark.parametrize("name", ["marserve", "torchserve", "mosec", "litserve", "ray", "fastapi"])
def test_most_servers_take_the_body_as_it_is(name: str) -> None:
    request = SERVERS[name].request(IMAGE)
    assert (request.path, request.body) == ("/predictions/captcha_image", IMAGE.body)
    assert request.headers == {"Content-Type": "image/jpeg"}
    assert SERVERS[name].request(ROW).headers == {"Content-Type": "application/json"}
    assert SERVERS[name].answer({}, b'{"score": 0.5}') == {"score": 0.5}


def test_triton_gets_the_same_bytes_in_a_tensor() -> None:
    request = SERVERS["triton"].request(IMAGE)
    length = int(request.headers["Inference-Header-Content-Length"])
    head, content = json.loads(request.body[:length]), request.body[length:]
    assert request.path == "/v2/models/captcha_image/infer"
    assert head["inputs"][0]["parameters"]["binary_data_size"] == len(content)
    assert content == struct.pack("<I", len(IMAGE.body)) + IMAGE.body
    reply = b"{}" + struct.pack("<I", 14) + b'{"score": 0.5}'
    assert SERVERS["triton"].answer({"Inference-Header-Content-Length": "2"}, reply) == {"score": 0.5}


def test_bentoml_gets_lists() -> None:
    server = SERVERS["bentoml"]
    assert json.loads(server.request(ROW).body) == [{"features": [1]}]
    assert json.loads(server.request(IMAGE).body) == [{"data": base64.b64encode(IMAGE.body).decode()}]
    assert server.answer({}, b'[{"score": 0.5}]') == {"score": 0.5}


@pytest.mark.parametrize("name", [server.name for server in SERVERS.values() if server.locked])
def test_every_peer_has_a_lock_of_exact_versions(name: str) -> None:
    lines = [line for line in (LOCKS / f"{name}.txt").read_text().splitlines() if line and line[0] not in "#- "]
    assert lines
    assert all("==" in line for line in lines)
    assert SERVERS[name].version()
    assert lock_version(name, "onnxruntime") == lock_version("fastapi", "onnxruntime")


def test_what_cannot_be_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    (tmp_path / "mosec.txt").write_text("this is no requirement\n")
    with pytest.raises(LoadTestError, match="cannot be installed: "):
        make_environment("mosec", tmp_path / "peers")
    with pytest.raises(LoadTestError, match=r"there is no ray\.txt"):
        make_environment("ray", tmp_path / "peers")


def test_an_environment_is_made_once_per_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    (tmp_path / "mosec.txt").write_text("# nothing at all\n")
    python = make_environment("mosec", tmp_path / "peers")
    assert python.exists()
    mark = python.with_name("mark")
    mark.touch()
    assert make_environment("mosec", tmp_path / "peers") == python
    assert mark.exists()
    (tmp_path / "mosec.txt").write_text("# another lock\n")
    make_environment("mosec", tmp_path / "peers")
    assert not mark.exists()
