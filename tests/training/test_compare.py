"""A comparison: what is wrong is said before anything trains, what is finished is not trained again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.training.photos import write_photos
from training.cli import DataError
from training.compare import main
from training.long_tail import main as cut

RECIPE = """architecture: small_cnn
input_size: [16]
batch_size: 4
epochs: 1
class_weight: 0.0
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_photos(folder / "images")
    cut([f"--data_dir={folder / 'images'}", f"--output_dir={folder / 'tail'}", "--classes=3", "--test=3", "--least=2"])
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def options(data: Path, output: Path) -> list[str]:
    places = [f"--data_dir={data}/tail/train", f"--test_dir={data}/tail/test", f"--output_dir={output}"]
    return [*places, f"--recipe={data}/recipe.yaml", "--workers=0"]


def test_variants_over_seeds(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, output = tmp_path / "variants.yaml", tmp_path / "compared"
    file.write_text("plain: {}\nall: { loss: focal, cutmix: 1.0, sampling: weighted, bags: 2 }\n")
    command = [*options(data, output), f"--variants={file}", "--seeds", "0", "1"]
    main(command)
    results = json.loads((output / "comparison.json").read_text())
    assert [(one["name"], one["seed"]) for one in results] == [("plain", 0), ("all", 0), ("plain", 1), ("all", 1)]
    plain, together = results[:2]
    assert together["parameters"] == 2 * plain["parameters"] > 0
    assert all(0 <= one[key] <= 1 for one in results for key in ("accuracy", "weighted_f1", "macro_f1", "rare_recall"))
    assert set(plain["recall"]) == {path.name for path in (data / "tail" / "test").iterdir()}
    with (output / "comparison.csv").open() as lines:
        assert [line["name"] for line in csv.DictReader(lines)] == ["plain", "all", "plain", "all"]
    table = (output / "comparison.md").read_text()
    assert capsys.readouterr().out.endswith(table)
    assert table.count("±") == 8  # four scores of two variants
    assert (output / "comparison.png").read_bytes().startswith(b"\x89PNG")
    trained = {path: path.stat().st_mtime_ns for path in output.rglob("best_model.pth") if "bag" in str(path)}
    main(command)
    assert capsys.readouterr().out.count(" is finished: ") == 2 + 4
    assert trained == {path: path.stat().st_mtime_ns for path in trained}


def test_networks_alike(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "compared"
    main([*options(data, output), "--architectures", "small_cnn", "mobilenet_v3_small", "--input_size", "32"])
    small, mobile = json.loads((output / "comparison.json").read_text())
    assert small["parameters"] < 200_000 < mobile["parameters"]
    assert min(small["milliseconds"], small["seconds_per_epoch"]) > 0
    meta = json.loads((output / "mobilenet_v3_small" / "seed_0" / "meta.json").read_text())
    assert meta["recipe"]["input_size"] == [32]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--architectures", "small_cnn", "resnet19"], "resnet19: --architecture must be small_cnn or one of"),
        (["--architectures", "small_cnn", "resnet18"], "resnet18: --input_size must be at least 32"),
        (["--variants=missing.yaml"], "--variants missing.yaml cannot be read"),
        (["--architectures", "small_cnn", "--test_dir={data}/images"], "has animal, object, which .* has not"),
        (["--architectures", "small_cnn", "--workers=-1"], "--workers must be at least 0"),
    ],
)
def test_what_is_refused_before_anything_trains(data: Path, tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        main([*options(data, tmp_path / "compared"), *(option.format(data=data) for option in more)])
    assert not (tmp_path / "compared").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have one 'name: {field: value}' per line"),
        ("plain:", "must have one 'name: {field: value}' per line"),
        ("plain: {los: focal}", "plain has unknown names: los"),
        ("plain: {loss: hinge}", "plain: loss must be one of cross_entropy, focal, not 'hinge'"),
        ("plain: {gamma: 2}", "plain: --gamma must lie between 0 and 1"),
        ("a/b: {}", "'a/b' is to be a folder's name"),
    ],
)
def test_files_that_are_no_variants(data: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "variants.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        main([*options(data, tmp_path / "compared"), f"--variants={tmp_path / 'variants.yaml'}"])
