"""A spec is checked once, and every mistake in it is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from export.cascade import opencv_cascade
from export.errors import ExportError
from export.spec import SPECS, known_names, read_model_spec
from handlers.pool import Pool
from handlers.tasks import build_task
from tests.export.models import write_pool

HANDLER = "handler: {task: random_images, pool: pool}\n"


def written(folder: Path, text: str) -> str:
    (folder / "mine.yaml").write_text(text)
    return "mine"


def test_defaults(tmp_path: Path) -> None:
    spec = read_model_spec(written(tmp_path, HANDLER), tmp_path)
    config = yaml.safe_load(spec.to_yaml())
    assert config["handler"] == {"task": "random_images", "pool": "pool"}
    assert config["maxBatchDelay"] == 1
    assert config["startupTimeout"] > 0
    assert "deviceType" not in config  # TorchServe decides


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("maxBatchDelay: 0\n", "maxBatchDelay: Input should be greater than or equal to 1"),
        ("batchSize: 0\n", "batchSize"),
        ("batchSize: -1\n", "batchSize"),
        ("batchSize: '4'\n", "batchSize: Input should be a valid integer"),
        ("batchSize: 4.0\n", "batchSize: Input should be a valid integer"),
        ("batchSize: true\n", "batchSize: Input should be a valid integer"),
        ("deviceType: tpu\n", "deviceType"),
        ("deviceIds: [a]\n", r"deviceIds\.0"),
        ("clientTimeoutInMills: 5\n", "clientTimeoutInMills: Extra inputs are not permitted"),
        ("asyncCommunication: true\n", "asyncCommunication"),
        ("maxbatchdelay: 5\n", "maxbatchdelay"),
        ("minWorkers: 3\nmaxWorkers: 2\n", "maxWorkers must be at least minWorkers"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ExportError, match=complaint) as caught:
        read_model_spec(written(tmp_path, text + HANDLER), tmp_path)
    assert str(tmp_path / "mine.yaml") in str(caught.value)


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"batchSize.*; .*speed"):
        read_model_spec(written(tmp_path, f"batchSize: x\nspeed: 3\n{HANDLER}"), tmp_path)


@pytest.mark.parametrize("text", ["", "3", "[1, 2]", "batchSize: 1", "handler: fast", "handler: [1]", "a: [", "\t"])
def test_no_spec_at_all(tmp_path: Path, text: str) -> None:
    with pytest.raises(ExportError, match=r"mine\.yaml"):
        read_model_spec(written(tmp_path, text), tmp_path)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("{}", "lacks task"),
        ("{task: random_images, speed: 3}", "unknown keys: speed"),
        ("{task: 3}", "handler.task must be text"),
        ("{task: t, network: {file: m.onnx}}", "handler.network lacks input_shape"),
        ("{task: t, network: {file: m.onnx, input_shape: [1], chunk: 0}}", "chunk must be at least 1"),
        ("{task: t, labels: [1, 2]}", "handler.labels must be a list of str"),
    ],
)
def test_a_wrong_handler_section_is_an_export_error(tmp_path: Path, section: str, complaint: str) -> None:
    spec = read_model_spec(written(tmp_path, f"handler: {section}\n"), tmp_path)
    with pytest.raises(ExportError, match=complaint):
        spec.handler_spec()


@pytest.mark.parametrize("name", ["nothing", "../specs/captcha_image", "captcha_image.yaml", ""])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ExportError, match="known: beverage, captcha_challenge, captcha_image"):
        read_model_spec(name)


@pytest.mark.parametrize("name", known_names())
def test_a_shipped_spec_suits_its_task(name: str, tmp_path: Path) -> None:
    spec = read_model_spec(name)
    if "network" in spec.handler:  # what an export fills in
        if spec.handler["task"].startswith("trajectory"):
            one = {"center": [0.0], "scale": [1.0]}
            filled = {"features": ["duration"], "reference": [1.0], "scaling": {"mouse": one, "touch": one}}
            if spec.handler["task"] == "trajectory_anomaly":
                filled.pop("reference")
            spec.handler["network"]["input_shape"] = [1]
        else:
            digits = spec.handler["task"] == "digit_recognition"
            labels = list(spec.handler["question"]["answers"]) if "question" in spec.handler else ["animal", "object"]
            filled = {"labels": list("0123456789") if digits else labels}
            spec.handler["network"]["input_shape"] = [32, 32, 3]
        spec.handler |= filled
    handler = spec.handler_spec()
    if handler.samples:
        handler = replace(handler, samples=str(SPECS / f"{name}_{handler.samples}"))
    if handler.cascade:
        handler = replace(handler, cascade=str(opencv_cascade(handler.cascade)))
    assert build_task(handler, Pool(write_pool(tmp_path / "pool")) if handler.pool else None)
    assert handler.example
    assert (SPECS / f"{name}.md").is_file()
    if "file" in handler.example:
        assert (SPECS / f"{name}{Path(handler.example['file']).suffix}").is_file()
