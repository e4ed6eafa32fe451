"""The recipe for unbalanced data: it trains, the same bits again and after an interruption, rare classes and all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.photos import write_photos
from training.captcha_dataset import scan
from training.recipe import Recipe, from_record
from training.splits import split
from training.train_image import main

OPTIONS = [
    "--architecture=small_cnn",
    "--input_size=16",
    "--batch_size=8",
    "--epochs=3",
    "--patience=3",
    "--workers=0",
    "--no_mlflow",
    "--loss=focal",
    "--label_smoothing=0.1",
    "--cutmix=1",
    "--sampling=weighted",
    "--schedule=exponential",
    "--select_by=val_weighted_f1",
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cats, three keys, 24 dogs and cups."""
    folder = write_photos(tmp_path_factory.mktemp("photos") / "images", per_class=24)
    for rare, count in (("animal/cat", 2), ("object/key", 3)):
        for path in sorted((folder / rare).iterdir())[count:]:
            path.unlink()
    return folder


def train(data_dir: Path, output_dir: Path, *more: str) -> dict[str, Any]:
    main([f"--data_dir={data_dir}", f"--output_dir={output_dir}", *OPTIONS, *more])
    meta: dict[str, Any] = json.loads((output_dir / "meta.json").read_text())
    return meta


def test_rare_classes_are_in_both_parts(data_dir: Path) -> None:
    photos = scan(data_dir)
    for seed in range(8):
        for share in (0.1, 0.5, 0.9):
            parts = split(photos, share, seed)
            assert [{photo.class_name for photo in part} for part in parts] == [{"cat", "dog", "cup", "key"}] * 2
            assert sorted(parts[0] + parts[1], key=lambda photo: photo.path) == photos


def test_the_same_bits_again_and_after_an_interruption(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import fit

    meta = train(data_dir, tmp_path / "whole")
    passes, one_pass = iter(range(100)), fit.Training._pass

    def stop_later(self: fit.Training, *arguments: Any, **options: Any) -> Any:
        if next(passes) == 2:
            raise KeyboardInterrupt
        return one_pass(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fit.Training, "_pass", stop_later)
        with pytest.raises(KeyboardInterrupt):
            train(data_dir, tmp_path / "interrupted")
    again = train(data_dir, tmp_path / "interrupted", "--resume")
    assert again["history"] == meta["history"]
    weights = [torch.load(tmp_path / name / "best_model.pth", weights_only=True) for name in ("whole", "interrupted")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert len(meta["epoch_seconds"]) == len(again["epoch_seconds"]) == 3
    assert [scores["learning_rate"] for scores in meta["history"]] == pytest.approx([3e-4, 2.4e-4, 1.92e-4])


def test_the_named_score_picks_the_epoch(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta = train(data_dir, tmp_path / "models", "--learning_rate=0.003")
    assert meta["metrics"] == max(meta["history"], key=lambda scores: scores["val_weighted_f1"])
    assert f"best validation weighted F1 {meta['metrics']['val_weighted_f1']:.4f}: " in capsys.readouterr().out
    assert {"val_macro_f1", "val_weighted_f1", "val_accuracy"} < meta["metrics"].keys()


def test_a_folder_of_before_goes_on(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whose meta.json has none of the newer options: it was trained as their defaults do."""
    plain = [
        "--no_mlflow",
        "--architecture=small_cnn",
        "--input_size=16",
        "--batch_size=8",
        "--epochs=1",
        "--workers=0",
    ]
    command = [f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'models'}", *plain]
    main(command)
    file = tmp_path / "models" / "meta.json"
    meta = json.loads(file.read_text())
    for name in ("loss", "focal_gamma", "label_smoothing", "cutmix", "sampling", "gamma", "select_by", "bags"):
        del meta["recipe"][name]
    del meta["bag"]
    assert from_record(meta["recipe"]) == Recipe(architecture="small_cnn", input_size=(16,), batch_size=8, epochs=1)
    file.write_text(json.dumps(meta))
    main([*command, "--resume"])
    assert "is finished" in capsys.readouterr().out
