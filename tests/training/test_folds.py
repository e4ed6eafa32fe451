"""Cross-validation: every photograph validates once, and an interrupted one goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.cli import DataError
from training.train_image import main

TINY = ["--input_size=32", "--batch_size=8", "--epochs=1", "--workers=0", "--no_mlflow", "--folds=3"]


def test_cross_validation(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "models"
    main([f"--data_dir={data_dir}", f"--output_dir={output}", *TINY])
    summary = json.loads((output / "folds.json").read_text())
    accuracies = [scores["val_accuracy"] for scores in summary["folds"]]
    assert summary["accuracy_mean"] == pytest.approx(sum(accuracies) / 3)
    metas = [json.loads((output / f"fold_{number}" / "meta.json").read_text()) for number in (1, 2, 3)]
    assert [meta["fold"] for meta in metas] == [[1, 3], [2, 3], [3, 3]]
    assert [meta["metrics"] for meta in metas] == summary["folds"]
    assert f"accuracy {summary['accuracy_mean']:.4f} +- {summary['accuracy_std']:.4f}" in capsys.readouterr().out
    with pytest.raises(DataError, match="fold_1 exists: --resume goes on with it; or remove it"):
        main([f"--data_dir={data_dir}", f"--output_dir={output}", *TINY])


def test_resume_takes_finished_folds_as_they_are(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import runner

    output = tmp_path / "models"
    finish = runner._finish
    with monkeypatch.context() as patch:

        def stop_in_the_second(job: runner.Job, *rest: object) -> None:
            if job.fold == (2, 3):
                raise KeyboardInterrupt
            finish(job, *rest)  # type: ignore[arg-type]

        patch.setattr(runner, "_finish", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            main([f"--data_dir={data_dir}", f"--output_dir={output}", *TINY])
    first = (output / "fold_1" / "meta.json").read_bytes()
    main([f"--data_dir={data_dir}", f"--output_dir={output}", *TINY, "--resume"])
    assert (output / "fold_1" / "meta.json").read_bytes() == first
    assert len(json.loads((output / "folds.json").read_text())["folds"]) == 3
    with pytest.raises(DataError, match="other --seed"):
        main([f"--data_dir={data_dir}", f"--output_dir={output}", *TINY, "--resume", "--seed=1"])


def test_nothing_to_resume(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to resume"):
        main([f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'none'}", *TINY, "--resume"])
