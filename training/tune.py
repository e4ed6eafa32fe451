"""The search for a better recipe: Optuna proposes, every trial is a training, hopeless ones are cut short.

Source of the sampler: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011. A trial is pruned
where after an epoch it is worse than the median of the trials before it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Container
from dataclasses import asdict, replace
from typing import cast

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from training.captcha_dataset import fingerprint
from training.cli import DataError
from training.fit import DivergedError
from training.recipe import Augmentation, Recipe
from training.runner import Job, epochs

STORE, BEST = "trials.db", "best_recipe.json"


def search(job: Job, trials: int, resume: bool) -> None:
    """Try `trials` recipes and write best_recipe.json. No weights are kept. Raises DataError."""
    store = job.output_dir / STORE
    if store.exists() and not resume:
        raise DataError(f"{store} exists: --resume goes on with that search; or remove it")
    if resume and not store.exists():
        raise DataError(f"nothing to resume: {store} does not exist")
    try:
        job.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--output_dir {job.output_dir} cannot be made: {error.strerror}") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=RDBStorage(f"sqlite:///{store}"),
        study_name="recipe",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=job.recipe.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    same = {**asdict(job.recipe), "photographs": fingerprint(job.photos)}
    same = json.loads(json.dumps(same))  # tuples as they come back from the store
    if study.user_attrs.setdefault("same", same) != same:
        raise DataError(f"{store} is of a search with another recipe or other photographs; --resume needs the same")
    study.set_user_attr("same", same)
    done = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study.trials)
    with job.record(job.output_dir.name) as record:
        study.optimize(lambda trial: _try(job, trial, trials), n_trials=max(0, trials - done))
        if not any(trial.state == TrialState.COMPLETE for trial in study.trials):
            raise DataError("no trial came to its end: every recipe was pruned; try more, or other photographs")
        record.log_scores({"best_val_accuracy": study.best_value}, 0)
    best = _propose(job.recipe, study.best_trial)
    (job.output_dir / BEST).write_text(json.dumps(asdict(best), indent=2) + "\n")
    print(
        f"best validation accuracy {study.best_value:.4f}, trial {study.best_trial.number + 1}: {job.output_dir / BEST}"
    )
    print(f"train with it: {_options(best)}")


def _try(job: Job, trial: optuna.Trial, trials: int) -> float:
    recipe = _propose(job.recipe, trial)
    print(f"trial {trial.number + 1} of {trials}: {_options(recipe, only=trial.params)}", flush=True)
    training = replace(job, recipe=recipe).start()
    outcome = "complete"
    with job.record(f"trial_{trial.number + 1}", nested=True) as record:
        record.log_parameters(asdict(recipe))
        try:
            for scores in epochs(training):
                record.log_scores(scores, len(training.history))
                trial.report(training.best["val_accuracy"], len(training.history))
                if trial.should_prune():
                    outcome = "pruned: worse than the median of the trials before it"
                    break
        except DivergedError:
            outcome = "pruned: the loss is no longer a number"
        record.tag("outcome", outcome)
    if outcome != "complete":
        print(outcome, flush=True)
        raise optuna.TrialPruned
    return training.best["val_accuracy"]


def _propose(recipe: Recipe, trial: optuna.Trial | optuna.trial.FrozenTrial) -> Recipe:
    """What is searched; all else stays as the user gave it."""
    return replace(
        recipe,
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-3, 1e-1, log=True),
        class_weight=trial.suggest_float("class_weight", 0.0, 1.0),
        augmentation=cast(Augmentation, trial.suggest_categorical("augmentation", ["crops", "full"])),
    )


def _options(recipe: Recipe, only: Container[str] | None = None) -> str:
    values = {name: value for name, value in asdict(recipe).items() if only is None or name in only}
    return shlex.join(
        part
        for name, value in values.items()
        for part in (f"--{name}", *(map(str, value) if isinstance(value, tuple) else (str(value),)))
    )
