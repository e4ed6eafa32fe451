"""The search: trials within their ranges, pruning, going on, and the best recipe as options that can be pasted."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import optuna
import pytest

from training.cli import DataError
from training.recipe import Recipe
from training.train_image import _parse, main
from training.tune import STORE

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Optuna leaves its SQLite connections to the end
TINY = ["--input_size=32", "--batch_size=8", "--epochs=2", "--workers=0", "--no_mlflow", "--validation_share=0.25"]


def study(output: Path) -> optuna.Study:
    return optuna.load_study(study_name="recipe", storage=f"sqlite:///{output / STORE}")


def test_search_and_go_on(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "tuned"
    options = [f"--data_dir={data_dir}", f"--output_dir={output}", *TINY]
    main([*options, "--tune=2"])
    assert len(study(output).trials) == 2
    with pytest.raises(DataError, match="exists: --resume goes on with that search"):
        main([*options, "--tune=2"])
    with pytest.raises(DataError, match="of a search with another recipe or other photographs"):
        main([*options, "--tune=3", "--resume", "--seed=1"])
    main([*options, "--tune=3", "--resume"])
    trials = study(output).trials
    assert len(trials) == 3
    assert all(1e-4 <= trial.params["learning_rate"] <= 1e-2 for trial in trials)

    best = json.loads((output / "best_recipe.json").read_text())
    assert best["learning_rate"] == study(output).best_params["learning_rate"]
    last = capsys.readouterr().out.splitlines()[-1]
    pasted = _parse(shlex.split(last.removeprefix("train with it: ")))
    assert {name: getattr(pasted, name) for name in best} == best
    assert Recipe(**best | {"input_size": tuple(best["input_size"])}).epochs == 2


def test_hopeless_trials_are_pruned(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later trials report ever less: after three, each is below the median of those before it."""
    from training import fit

    trial = iter(range(1000))
    monkeypatch.setattr(fit.Training, "epoch", lambda self: _fake_epoch(self, next(trial)))
    main([f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'tuned'}", *TINY, "--tune=5"])
    states = [trial.state.name for trial in study(tmp_path / "tuned").trials]
    assert states[:3] == ["COMPLETE"] * 3
    assert states[3:] == ["PRUNED"] * 2


def _fake_epoch(training: object, calls: int) -> dict[str, float]:
    """Only the scores that pruning reads; that a real epoch reports them, the other tests show."""
    history: list[dict[str, float]] = training.history  # type: ignore[attr-defined]
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_class_accuracy")
    history.append(dict.fromkeys(names, 0.9 - calls / 100) | {"epoch": len(history) + 1})
    return history[-1]


def test_a_recipe_that_diverges_costs_its_trial_only(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training import fit

    trial = iter(range(1000))

    def epoch(training: object) -> dict[str, float]:
        if (call := next(trial)) == 0:
            raise fit.DivergedError("the loss is no longer a number")
        return _fake_epoch(training, call)

    monkeypatch.setattr(fit.Training, "epoch", epoch)
    main([f"--data_dir={data_dir}", f"--output_dir={tmp_path / 'tuned'}", *TINY, "--tune=2"])
    assert [trial.state.name for trial in study(tmp_path / "tuned").trials] == ["PRUNED", "COMPLETE"]
    assert "pruned: the loss is no longer a number\n" in capsys.readouterr().out
