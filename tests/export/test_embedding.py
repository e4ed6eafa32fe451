"""A classifier's network cut before its last layer, the gate behind it, and the archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export import embedding
from export.__main__ import main
from export.embedding import cut
from export.errors import ExportError
from export.image_classifier import crops
from export.selftest import MOST
from tests.e2e.archives import read_files, write_archive
from tests.export.models import EXAMPLE, SIDE, SmallEfficient, unpack
from tests.export.test_main import answer, refused

INPUTS = crops(EXAMPLE, SIDE)
PIXELS = np.stack([pixels for _, pixels in INPUTS])


@pytest.fixture(autouse=True)
def outside_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the exports of conftest.py: the same source commit, whoever commits meanwhile."""
    monkeypatch.setenv("GIT_DIR", "/nonexistent")


def run(network: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = ort.InferenceSession(network).run(["embedding"], {"pixels": pixels})[0]
    return found


def write_head(path: Path, nodes: list[tuple[str, list[str], list[str]]]) -> Path:
    """Pixels -> their mean colour, `means` (batch, 3), and from there the given nodes to `probabilities`."""
    weights = {"weights": np.eye(3, dtype=np.float32) / 9, "bias": np.array([0, 1, 2], np.float32), "axes": [1, 2]}
    made = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        *(helper.make_node(kind, inputs, outputs) for kind, inputs, outputs in nodes),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(made, "head", [pixels], [output], values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_it_is_the_layer_before_the_last_one_with_length_1(efficient_onnx: Path, tmp_path: Path) -> None:
    parity = cut(efficient_onnx, tmp_path / "model.onnx", INPUTS)
    found = run(tmp_path / "model.onnx", PIXELS)
    with torch.inference_mode():
        features = torch.nn.functional.normalize(SmallEfficient().features(torch.from_numpy(PIXELS)))
    np.testing.assert_allclose(found, features, atol=1e-5)
    assert (parity.inputs, parity.dim) == (70, 16)
    assert parity.max_difference <= parity.tolerance
    assert parity.max_norm_error <= parity.norm_tolerance
    weights = {tensor.name for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert not any("head" in name for name in weights)  # the last layer is not carried along


@pytest.mark.parametrize(
    "nodes",
    [
        [("Gemm", ["means", "weights", "bias"], ["logits"])],
        [("MatMul", ["means", "weights"], ["product"]), ("Add", ["product", "bias"], ["logits"])],
        [("MatMul", ["means", "weights"], ["product"]), ("Add", ["bias", "product"], ["logits"])],
        [("MatMul", ["means", "weights"], ["logits"])],
    ],
)
def test_a_last_layer_may_be_written_in_several_ways(nodes: list[Any], tmp_path: Path) -> None:
    source = write_head(tmp_path / "head.onnx", [*nodes, ("Softmax", ["logits"], ["probabilities"])])
    cut(source, tmp_path / "model.onnx", INPUTS)
    means = PIXELS.astype(np.float64).mean(axis=(1, 2))
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(run(tmp_path / "model.onnx", PIXELS), expected, atol=1e-6)


def test_a_row_of_zeros_stays_one(tmp_path: Path) -> None:
    """It has no direction; NaN would take the whole answer away."""
    nodes = [("Gemm", ["means", "weights", "bias"], ["logits"]), ("Softmax", ["logits"], ["probabilities"])]
    cut(write_head(tmp_path / "head.onnx", nodes), tmp_path / "model.onnx", INPUTS)
    assert not run(tmp_path / "model.onnx", np.zeros((1, SIDE, SIDE, 3), np.uint8)).any()


@pytest.mark.parametrize(
    "nodes",
    [
        [("Sigmoid", ["means"], ["probabilities"])],
        [("Softmax", ["means"], ["probabilities"])],
        [("Add", ["means", "bias"], ["logits"]), ("Softmax", ["logits"], ["probabilities"])],
        [
            ("Add", ["means", "bias"], ["other"]),
            ("Transpose", ["other"], ["turned"]),
            ("MatMul", ["other", "turned"], ["logits"]),
            ("Softmax", ["logits"], ["probabilities"]),
        ],
    ],
)
def test_networks_that_end_otherwise_are_refused(nodes: list[Any], tmp_path: Path) -> None:
    source = write_head(tmp_path / "head.onnx", nodes)
    with pytest.raises(ExportError, match="does not end in a linear layer and a softmax"):
        cut(source, tmp_path / "model.onnx", INPUTS)
    assert not (tmp_path / "model.onnx").exists()


def doubled(network: onnx.ModelProto) -> onnx.ModelProto:
    network.graph.node[-1].output[0] = "half"
    network.graph.node.append(helper.make_node("Add", ["half", "half"], ["embedding"]))
    return network


def mirrored(network: onnx.ModelProto) -> onnx.ModelProto:
    network.graph.node[-1].output[0] = "other"
    network.graph.node.append(helper.make_node("Neg", ["other"], ["embedding"]))
    return network


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(doubled, r"its length is off by 1\.0e\+00"), (mirrored, r"probabilities of it by \d\.\de-0[12]")],
)
def test_the_gate(
    wrong: Callable[[onnx.ModelProto], onnx.ModelProto],
    message: str,
    efficient_onnx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = embedding._normalised
    monkeypatch.setattr(embedding, "_normalised", lambda network: wrong(right(network)))
    with pytest.raises(ExportError, match=r"fails its gate at batch 1 for \d+ of 70 inputs; worst is .*" + message):
        cut(efficient_onnx, tmp_path / "model.onnx", INPUTS)


def test_from_a_checkpoint_or_its_classifiers_archive(
    exported: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same network either way, with the same records; and packed again it is the same archive."""
    main(["image_embedding", f"--archive={exported}", f"--output_dir={tmp_path}"])
    archive = tmp_path / "image_embedding.mar"
    assert "parity with the classifier: max difference " in capsys.readouterr().out
    main(
        [
            "image_embedding",
            f"--checkpoint={checkpoint}",
            f"--output_dir={tmp_path / 'b'}",
            "--data_note=Random $pixels.",
        ]
    )
    first, second = (read_files(path) for path in (archive, tmp_path / "b" / "image_embedding.mar"))
    assert [name for name in first if first[name] != second.get(name)] == ["digests.json", "metadata.json"]
    assert json.loads(first["metadata.json"]) == json.loads(second["metadata.json"])  # in another order
    main(["image_embedding", f"--archive={archive}", f"--output_dir={tmp_path / 'c'}"])
    assert (tmp_path / "c" / "image_embedding.mar").read_bytes() == archive.read_bytes()

    metadata = json.loads(first["metadata.json"])
    assert (metadata["task"], metadata["cut"]["dim"], metadata["version"]) == ("image_embedding", 1280, "20260102.0304")
    assert len(json.loads(first["selftest.json"])["cases"]) == MOST
    card = archive.with_suffix(".md").read_text()
    assert "A photograph as 1,280 numbers" in card
    folder = unpack(archive, tmp_path / "unpacked")
    reply = answer(folder, (folder / "example.jpg").read_bytes())
    assert reply["dim"] == 1280
    assert np.linalg.norm(reply["embedding"]) == pytest.approx(1, abs=1e-5)


def test_sources_that_do_not_suit(
    exported: Path, efficient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"--output_dir={tmp_path / 'out'}"
    main(["image_embedding", f"--archive={efficient}", f"--output_dir={tmp_path}"])
    made = tmp_path / "image_embedding.mar"
    message = refused(capsys, "captcha_image", f"--archive={made}", output)
    assert "of another kind of model: it is for image_embedding, not for image_classification" in message
    files = read_files(efficient)
    metadata = json.loads(files["metadata.json"]) | {"quantization": {"method": "static"}}
    write_archive(tmp_path / "small.mar", files | {"metadata.json": json.dumps(metadata).encode()})
    message = refused(capsys, "image_embedding", f"--archive={tmp_path / 'small.mar'}", output)
    assert "not the float32 one (it has quantization)" in message
    assert not (tmp_path / "out").exists()
