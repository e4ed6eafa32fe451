"""A real training on a few small images: its files, its repeatability, and one line for every mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, nll_loss

from handlers import image, ink
from tests.training.photos import encoded, write_photos
from training.captcha_dataset import fingerprint, scan
from training.cli import run_script
from training.network import MEAN, STD, ImageClassifier
from training.recipe import Recipe
from training.splits import split
from training.train_image import main

ROOT = Path(__file__).parents[2]
TINY = {"input_size": 32, "batch_size": 8, "epochs": 2, "workers": 0, "learning_rate": 0.003, "validation_share": 0.25}


def train(data_dir: Path, output_dir: Path, **changes: float) -> dict[str, Any]:
    """Train in this process; what meta.json says."""
    options = [f"--{name}={value}" for name, value in (TINY | changes).items()]
    main([f"--data_dir={data_dir}", f"--output_dir={output_dir}", "--no_mlflow", *options])
    meta: dict[str, Any] = json.loads((output_dir / "meta.json").read_text())
    return meta


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "new" / "models"


@pytest.fixture(scope="module")
def meta(data_dir: Path, output_dir: Path) -> dict[str, Any]:
    return train(data_dir, output_dir)


def test_meta_describes_the_model(meta: dict[str, Any], data_dir: Path) -> None:
    assert meta["architecture"] == "torchvision efficientnet_b0"
    assert meta["classes"] == ["animal", "object"]
    assert meta["members"] == {"animal": ["cat", "dog"], "object": ["cup", "key"]}
    assert meta["preprocessing"] == {
        "input_size": 32,
        "resize": "shorter side, then centre crop",
        "mean": list(MEAN),
        "std": list(STD),
    }
    recipe = Recipe(input_size=(32,), batch_size=8, epochs=2, learning_rate=0.003, validation_share=0.25)
    assert meta["recipe"] == json.loads(json.dumps(asdict(recipe)))
    assert (meta["fold"], meta["pretrained"]) == (None, None)
    assert meta["machine"] == {"device": "cpu", "processes": 1, "workers": 0, "compile": False, "bfloat16": False}
    assert meta["versions"]["torch"] == version("torch")
    assert meta["data"] == {
        "images": 48,
        "images_per_group": {"animal": 24, "object": 24},
        "training_images": 36,
        "validation_images": 12,
        "fingerprint_sha256": fingerprint(scan(data_dir)),
    }
    history = meta["history"]
    assert [line["epoch"] for line in history] == list(range(1, len(history) + 1))
    best = max(history, key=lambda line: line["val_accuracy"])
    assert meta["metrics"] == best
    assert "trained_at" in meta


def test_weights_load_and_reach_the_recorded_metrics(meta: dict[str, Any], data_dir: Path, output_dir: Path) -> None:
    assert sorted(path.name for path in output_dir.iterdir()) == ["best_model.pth", "meta.json", "report"]
    model = ImageClassifier([0, 0, 1, 1]).eval()
    model.load_state_dict(torch.load(output_dir / "best_model.pth", weights_only=True))
    _, validation = split(scan(data_dir), 0.25, seed=0)
    pixels = torch.stack(
        [torch.from_numpy(image.load(photo.path.read_bytes(), 32)).permute(2, 0, 1) for photo in validation]
    )
    groups = torch.tensor([meta["classes"].index(photo.group) for photo in validation])
    classes = torch.tensor([["cat", "dog", "cup", "key"].index(photo.class_name) for photo in validation])
    with torch.inference_mode():
        logits = model.class_logits(pixels)
        log_groups = model(pixels).log()
        metrics = {
            "val_accuracy": float((log_groups.argmax(1) == groups).float().mean()),
            "val_class_accuracy": float((logits.argmax(1) == classes).float().mean()),
            "val_loss": float(0.5 * nll_loss(log_groups, groups) + 0.5 * cross_entropy(logits, classes)),
        }
    assert metrics == pytest.approx({name: meta["metrics"][name] for name in metrics}, rel=1e-3)


def test_it_learns(tmp_path: Path) -> None:
    """Cats from cups: with less than 90 steps, batch normalisation still lags behind the weights."""
    data_dir = write_photos(tmp_path / "images", per_class=24)
    shutil.rmtree(data_dir / "animal" / "dog")
    shutil.rmtree(data_dir / "object" / "key")
    meta = train(data_dir, tmp_path / "models", epochs=16, patience=16, batch_size=6, learning_rate=0.005)
    assert meta["metrics"]["val_accuracy"] > 0.8  # 0.5 is a guess


def test_the_seed_decides(meta: dict[str, Any], data_dir: Path, tmp_path: Path) -> None:
    again, other = train(data_dir, tmp_path / "again"), train(data_dir, tmp_path / "other", seed=1)
    assert again["metrics"] == meta["metrics"]
    assert again["history"] == meta["history"]
    assert other["history"][0]["train_loss"] != meta["history"][0]["train_loss"]


def test_five_steps(data_dir: Path, tmp_path: Path) -> None:
    """torch's OneCycleLR divides by zero where the warm-up is one step long."""
    assert train(data_dir, tmp_path, epochs=5, batch_size=36, patience=5)["history"]


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake costs, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: main(arguments))
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--batch_size=1", "--batch_size must be at least 2"),
        ("--epochs=0", "--epochs must be at least 1"),
        ("--patience=0", "--patience must be at least 1"),
        ("--input_size=31", "--input_size must be at least 32"),
        ("--workers=-1", "--workers must be at least 0"),
        ("--validation_share=1", "--validation_share must lie between 0 and 1"),
        ("--learning_rate=0", "--learning_rate must be positive"),
        ("--learning_rate=nan", "--learning_rate must be a number"),
        ("--seed=-1", "--seed must lie between 0 and 4294967295"),
        ("--batch_size=64", "36 training images do not fill one batch of 64"),
        ("--class_weight=1.1", "--class_weight must lie between 0 and 1"),
        ("--weight_decay=-1", "--weight_decay must not be negative"),
        ("--folds=1", "--folds must be at least 2"),
        ("--folds=13", "animal/cat has 12 image(s); 13 folds need at least 13 of every class"),
        ("--tune=0", "--tune must be at least 1"),
        ("--resume", "nothing to resume"),
        ("--weights=missing.pth", "--weights missing.pth cannot be read: No such file or directory"),
        ("--validation_share=0.99", "48 images in 4 classes are too few to set some apart"),
    ],
)
def test_wrong_arguments(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    common = (f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'models'}", "--validation_share=0.25", "--no_mlflow")
    assert mistake(capsys, *common, argument).startswith(f"error: {message}")
    assert not (tmp_path / "models").exists()


def test_wrong_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = write_photos(tmp_path / "images", per_class=4)
    output = f"--output_dir={tmp_path / 'models'}"
    arguments = (f"--data_dir={data_dir}", output, "--batch_size=4", "--workers=0", "--no_mlflow")
    (tmp_path / "models").write_text("not a folder")
    assert "models cannot be made: File exists" in mistake(capsys, *arguments)
    (data_dir / "animal" / "lion").mkdir()
    assert "lion holds no images" in mistake(capsys, *arguments)
    shutil.rmtree(data_dir / "animal")
    assert "has 1 group(s) with images; a classifier needs at least two" in mistake(capsys, *arguments)


def test_damaged_photos_are_named_counted_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = write_photos(tmp_path / "images")
    for name in ("cup_1.png", "cup_7.png"):
        path = data_dir / "object" / "cup" / name
        path.write_bytes(path.read_bytes()[:60])
    meta = train(data_dir, tmp_path / "models", epochs=1)
    assert meta["data"]["images"] == 46
    errors = capsys.readouterr().err
    assert f"skipped {data_dir}/object/cup/cup_1.png: the image/png data is damaged or cut short\n" in errors
    assert "skipped 2 of 48 images that cannot be read\n" in errors


def test_a_class_that_cannot_be_read_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = write_photos(tmp_path / "images", per_class=4)
    for path in (data_dir / "object" / "cup").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: main([f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'models'}", "--no_mlflow"]))
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {data_dir}/object/cup holds no image that can be read; fill it or remove it"
    )


def test_diverging_is_said(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_script(lambda: print(train(data_dir, tmp_path / "models", learning_rate=1e30)))
    assert "the loss is no longer a number; try a lower --learning_rate" in capsys.readouterr().err


def test_it_stops_early(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta = train(data_dir, tmp_path / "models", epochs=9, patience=1, learning_rate=1e-9)
    assert len(meta["history"]) < 9
    assert "no better validation accuracy for 1 epochs: stopped early\n" in capsys.readouterr().out


def test_growing_sizes(data_dir: Path, tmp_path: Path) -> None:
    output_dir = tmp_path / "models"
    options = [f"--{name}={value}" for name, value in (TINY | {"epochs": 3}).items() if name != "input_size"]
    sizes = ["--input_size", "32", "48"]
    main([f"--data_dir={data_dir}", f"--output_dir={output_dir}", "--no_mlflow", *options, *sizes])
    meta = json.loads((output_dir / "meta.json").read_text())
    assert [scores["input_size"] for scores in meta["history"]] == [32, 32, 48]
    assert meta["preprocessing"]["input_size"] == 48


def test_what_argparse_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: main(["--epochs=none"]))
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("error: argument --epochs: invalid int value: 'none'\n")


def test_a_recipes_file_and_groups_without_classes(tmp_path: Path) -> None:
    """Options beat the file; the small network reads ink as it will be served."""
    data_dir = tmp_path / "images"
    for group, shape in (("0", "disc"), ("1", "box")):
        (data_dir / group).mkdir(parents=True)
        for number in range(12):
            data = encoded(shape, (250, 250, 250), (40, 40), "PNG", seed=number)
            (data_dir / group / f"{number}.png").write_bytes(data)
    file = tmp_path / "shapes.yaml"
    file.write_text(
        "architecture: small_cnn\npreprocessing: ink\naugmentation: strokes\ninput_size: [28]\n"
        "epochs: 9\nbatch_size: 6\nlearning_rate: 0.01\n"
    )
    output_dir = tmp_path / "models"
    options = ["--no_mlflow", "--workers=0", "--epochs=2", "--validation_share=0.25"]
    main([f"--data_dir={data_dir}", f"--output_dir={output_dir}", f"--recipe={file}", *options])
    meta = json.loads((output_dir / "meta.json").read_text())
    assert meta["architecture"] == "small_cnn: six convolutions, 100,000 weights"
    assert meta["members"] == {"0": ["0"], "1": ["1"]}
    assert meta["preprocessing"]["resize"] == "strokes in white on black, scaled and centred"
    assert (meta["recipe"]["epochs"], meta["recipe"]["batch_size"], meta["recipe"]["preprocessing"]) == (2, 6, "ink")
    model = ImageClassifier([0, 1], "small_cnn").eval()
    model.load_state_dict(torch.load(output_dir / "best_model.pth", weights_only=True))
    _, validation = split(scan(data_dir), 0.25, seed=0)
    pixels = [torch.from_numpy(ink.load(p.path.read_bytes(), 28)).permute(2, 0, 1) for p in validation]
    with torch.inference_mode():
        found = model(torch.stack(pixels)).argmax(1).tolist()
    right = [int(photo.group) == index for photo, index in zip(validation, found, strict=True)]
    assert sum(right) / len(right) == pytest.approx(meta["metrics"]["val_accuracy"])


def test_as_a_script(tmp_path: Path) -> None:
    """From the repository's root, as the documentation says; a mistake costs one line."""
    missing = tmp_path / "missing"
    command = [sys.executable, "training/train_efficientnet.py", f"--data_dir={missing}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"error: {missing} is not a folder; expected {missing}/<group>/<class>/*.jpg|png\n"


def test_another_network_with_a_head_in_lower_precision(data_dir: Path, tmp_path: Path) -> None:
    output_dir = tmp_path / "models"
    options = ["--no_mlflow", "--workers=0", "--epochs=1", "--batch_size=4", "--input_size=32", "--bfloat16"]
    network = ["--architecture=resnet18", "--head", "24"]
    main([f"--data_dir={data_dir}", f"--output_dir={output_dir}", *network, *options])
    meta = json.loads((output_dir / "meta.json").read_text())
    assert meta["architecture"] == "torchvision resnet18, head through 24"
    assert meta["machine"]["bfloat16"]
    model = ImageClassifier([0, 0, 1, 1], "resnet18", [24])
    model.load_state_dict(torch.load(output_dir / "best_model.pth", weights_only=True))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
