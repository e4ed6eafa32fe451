"""What a server asks of an archive before it serves it: a signature, and the answers that were recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export.__main__ import main
from loadtest.bench.processes import free_port
from marserve.rundir import RunDir
from marserve.trust import signing
from tests.e2e.archives import current_store, read_files, write_archive
from tests.e2e.server import failing, processes_of, serving
from tests.paths import ROOT


@pytest.fixture
def asking(tmp_path: Path) -> Path:
    """A configuration that asks for signatures by the key beside it."""
    signing.make_key(tmp_path / "key")
    config = tmp_path / "config.properties"
    config.write_text((ROOT / "config.properties").read_text() + "require_signature=key.pub\n")
    return config


def test_only_what_is_signed_is_served(asking: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    path = Path(shutil.copy(current_store() / "captcha_challenge.mar", store))
    arguments = ["--config", str(asking), "--model-store", str(store)]
    port = free_port()
    code, error, seconds = failing(*arguments, "--port", str(port))
    assert (code, error) == (1, f"error: {path} is not signed: captcha_challenge.mar.sig is missing beside it\n")
    assert seconds < 10
    assert processes_of(port) == []
    signing.sign(path, signing.read_private_key(tmp_path / "key"))
    with serving(*arguments) as server:
        challenge = httpx.post(f"{server.url}/predictions/captcha_challenge", json={"kind": "drag_drop", "count": 4})
        assert len(challenge.json()["images"]) == 4
        rundir = RunDir(server.port)
        assert rundir.trusted.read_bytes() == (tmp_path / "key.pub").read_bytes()
        assert "require_signature" not in rundir.config.read_text()
    signing.make_key(tmp_path / "another")
    asking.write_text(asking.read_text().replace("key.pub", "another.pub"))
    code, error, _ = failing(*arguments, "--port", str(port))  # nor is what an earlier server has left
    assert code == 1
    assert error.startswith(f"error: {path} is not what a trusted key has signed")


def test_a_wrong_network_does_not_become_ready(tmp_path: Path) -> None:
    """The same inputs and outputs, digests that match, and the labels the other way round."""
    main(["captcha_image", f"--archive={current_store() / 'captcha_image.mar'}", f"--output_dir={tmp_path}"])
    files = read_files(tmp_path / "captcha_image.mar")
    network = onnx.load_from_string(files["model.onnx"])
    last = next(node for node in network.graph.node if "probabilities" in node.output)
    last.output[list(last.output).index("probabilities")] = "straight"
    network.graph.initializer.append(numpy_helper.from_array(np.array([1, 0]), "turned"))
    network.graph.node.append(helper.make_node("Gather", ["straight", "turned"], ["probabilities"], axis=1))
    write_archive(tmp_path / "captcha_image.mar", files | {"model.onnx": network.SerializeToString()})
    port = free_port()
    code, error, seconds = failing("--model-store", str(tmp_path), "--port", str(port))
    first = json.loads(files["selftest.json"])["cases"][0]
    assert code == 1
    assert error.startswith("error: captcha_image does not load: the self-test fails: the answer to example.jpg has ")
    assert f'instead of "{first["answer"]["label"]}"' in error
    assert error.count("\n") == 1
    assert seconds < 30
    assert processes_of(port) == []
