"""A worker refuses a network whose inputs and outputs are not the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlers import interface
from handlers.entry import Handler
from handlers.errors import SpecError
from handlers.network import Network
from handlers.spec import HandlerSpec, NetworkSpec
from tests.handlers.networks import LABELS, SIDE, write_classifier, write_digests
from tests.handlers.test_entry import context_of

NETWORK = NetworkSpec("model.onnx", (SIDE, SIDE, 3))
SPEC = HandlerSpec("image_classification", LABELS, NETWORK)
RECORD: dict[str, Any] = {
    "task": "image_classification",
    "labels": list(LABELS),
    "inputs": [{"name": "pixels", "dtype": "uint8", "shape": [None, SIDE, SIDE, 3]}],
    "outputs": [{"name": "probabilities", "dtype": "float", "shape": [None, 3]}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classifier(tmp_path / "model.onnx")
    return tmp_path


def write(folder: Path, record: object) -> None:
    (folder / "metadata.json").write_text(json.dumps({"name": "colours"} | ({"interface": record} if record else {})))
    write_digests(folder)


def test_what_is_recorded(folder: Path) -> None:
    assert interface.describe(SPEC, Network(folder, NETWORK)) == RECORD
    assert interface.describe(HandlerSpec("random_images"), None) == {
        "task": "random_images", "labels": [], "inputs": [], "outputs": []
    }  # fmt: skip


def test_the_recorded_model_is_served(folder: Path) -> None:
    for record in (RECORD, None):
        write(folder, record)
        Handler().initialize(context_of(folder))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "divination"}, 'exported: task "image_classification", .* has "divination"'),
        ({"labels": ["red", "blue", "green"]}, "exported: labels"),
        ({"inputs": [{**RECORD["inputs"][0], "name": "image"}]}, 'exported: inputs .*"pixels".* has .*"image"'),
        ({"inputs": [{**RECORD["inputs"][0], "dtype": "float"}]}, "exported: inputs"),
        ({"outputs": [{**RECORD["outputs"][0], "shape": [None, 2]}]}, "exported: outputs"),
        ({"outputs": RECORD["outputs"] * 2}, "exported: outputs"),
        ({"more": 1}, "interface must have task, labels, inputs, outputs"),
    ],
)
def test_another_one_is_not(change: dict[str, object], said: str, folder: Path) -> None:
    write(folder, RECORD | change)
    with pytest.raises(SpecError, match=said):
        Handler().initialize(context_of(folder))


@pytest.mark.parametrize("content", ["{", "[]", '{"interface": []}'])
def test_a_damaged_record_is_told(content: str, folder: Path) -> None:
    (folder / "metadata.json").write_text(content)
    with pytest.raises(SpecError, match=r"metadata\.json"):
        interface.check(folder, SPEC, Network(folder, NETWORK))
