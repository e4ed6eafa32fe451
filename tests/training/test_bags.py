"""An ensemble by bagging: its samples, its files, its resumption, and the mean that it answers with."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score

from handlers import image
from training import report
from training.captcha_dataset import scan
from training.cli import DataError
from training.ensemble import Ensemble
from training.network import ImageClassifier
from training.splits import bootstrap, split
from training.train_image import main

TINY = [
    "--architecture=small_cnn",
    "--input_size=16",
    "--batch_size=8",
    "--epochs=2",
    "--workers=0",
    "--learning_rate=0.003",
    "--validation_share=0.25",
    "--no_mlflow",
    "--bags=2",
]


@pytest.fixture(scope="module")
def output_dir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "models"
    main([f"--data_dir={data_dir}", f"--output_dir={output}", *TINY])
    return output


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    return found


def test_a_sample_keeps_every_class(data_dir: Path) -> None:
    photos = scan(data_dir)[9:]  # three cats, twelve of the others
    sample = bootstrap(photos, 1, seed=0)
    assert Counter(photo.class_name for photo in sample) == {"cat": 3, "dog": 12, "cup": 12, "key": 12}
    assert set(sample) < set(photos)
    assert bootstrap(photos, 1, seed=0) == sample
    assert bootstrap(photos, 2, seed=0) != sample
    assert bootstrap(photos, 1, seed=1) != sample


def test_the_networks_differ_and_are_validated_alike(output_dir: Path) -> None:
    one, other = (read(output_dir / f"bag_{number}") for number in (1, 2))
    assert (one["bag"], other["bag"]) == ([1, 2], [2, 2])
    assert one["data"] == other["data"]
    assert one["history"][0]["train_loss"] != other["history"][0]["train_loss"]


def test_the_ensemble_is_the_mean_of_its_networks(data_dir: Path, output_dir: Path) -> None:
    ensemble = Ensemble([0, 0, 1, 1], "small_cnn", (), 2).eval()
    ensemble.load_state_dict(torch.load(output_dir / "best_model.pth", weights_only=True))
    _, validation = split(scan(data_dir), 0.25, seed=0)
    pixels = torch.stack(
        [torch.from_numpy(image.load(photo.path.read_bytes(), 16)).permute(2, 0, 1) for photo in validation]
    )
    own = []
    for number in (1, 2):
        model = ImageClassifier([0, 0, 1, 1], "small_cnn").eval()
        model.load_state_dict(torch.load(output_dir / f"bag_{number}" / "best_model.pth", weights_only=True))
        own.append(model)
    with torch.inference_mode():
        mean, each = ensemble(pixels)
        torch.testing.assert_close(each, torch.stack([model(pixels) for model in own], dim=1))
    torch.testing.assert_close(mean, each.mean(dim=1))
    meta = read(output_dir)
    truth = [meta["classes"].index(photo.group) for photo in validation]
    found = mean.argmax(1)
    assert meta["metrics"] == pytest.approx(
        {
            "val_accuracy": float((found == torch.tensor(truth)).float().mean()),
            "val_weighted_f1": f1_score(truth, found, average="weighted"),
            "val_macro_f1": f1_score(truth, found, average="macro"),
            "val_agreement": float((each.argmax(2) == found[:, None]).float().mean()),
        }
    )
    assert [one["folder"] for one in meta["networks"]] == ["bag_1", "bag_2"]
    assert meta["recipe"]["bags"] == 2
    assert "history" not in meta


def test_it_goes_on_and_refuses_another(data_dir: Path, output_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [f"--data_dir={data_dir}", f"--output_dir={output_dir}", *TINY]
    with pytest.raises(DataError, match="bag_1 exists: --resume goes on with it; or remove it"):
        main(common)
    before = (output_dir / "best_model.pth").read_bytes()
    main([*common, "--resume"])
    assert "bag_1 is finished: best validation accuracy" in capsys.readouterr().out
    assert (output_dir / "best_model.pth").read_bytes() == before
    with pytest.raises(DataError, match="other --bags"):
        main([*common, "--resume", "--bags=3"])


def test_what_does_not_go_together(data_dir: Path, output_dir: Path) -> None:
    for way in ("--folds=3", "--tune=2"):
        with pytest.raises(DataError, match=f"{way[:6]}.* and --bags 2 exclude each other"):
            main([f"--data_dir={data_dir}", *TINY, way])
    with pytest.raises(DataError, match="holds an ensemble: its networks have reports: bag_1"):
        report.main([f"--data_dir={data_dir}", f"--output_dir={output_dir}"])
