"""Train a random forest to tell people's drags from bots'.

    python training/random_forest_ai.py --data_dir data/mouse --output_dir models/drag_pattern

The output folder gets the forest (`model.skops`), `meta.json`, `rows.npz` (features of the test, for the export's
parity gate), `test/` (the people and strokes that were kept out, and bots in their place, for `marserve evaluate`) and
`report/index.html`. MLflow keeps the same, see tracking.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from handlers.trajectory import NAMES
from training import behaviour, detection
from training.cli import run_script
from training.detection import Rows, Scores
from training.rules import looks_human

# What is known of a path without its timing. Half of the trees see nothing else: those that see everything find the
# timing first, and then miss a bot that borrows a person's timing for a path of its own.
PATH_FEATURES = (
    "path_length", "displacement", "straightness", "max_deviation", "mean_deviation", "overshoot", "mean_curvature",
    "net_turn", "turn_variation", "turn_memory", "straight_steps", "path_roughness", "reversals", "bending",
    "bending_variation", "bending_memory", "curve_residual", "fine_residual", "residual_memory",
    "turn_direction_changes",
)  # fmt: skip
_CANDIDATES = 6  # features that a split chooses from
_FOLDS = 5


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a random forest to tell people's drags from bots'.")
    behaviour.add_arguments(parser, "drag_pattern")
    parser.add_argument("--trees", type=int, default=80, help="half of them see the path only (default: %(default)s)")
    parser.add_argument("--leaves", type=int, default=1000, help="of a tree, at most (default: %(default)s)")
    parser.add_argument(
        "--false_positives",
        type=float,
        default=0.02,
        help="share of people that the threshold may flag in cross-validation (default: %(default)s)",
    )
    parser.add_argument("--no_leave_out", action="store_true", help="skip the trainings without a family or a device")
    args = parser.parse_args(argv)
    behaviour.check(args, {"trees": (2, 2000), "leaves": (2, 100_000), "false_positives": (0.0, 0.5)})
    with behaviour.Job.begin(__file__, args) as job:
        train, test = detection.training_rows(job.train, args.seed), job.test_rows
        forest = fit(train, args.trees, args.leaves, args.seed)
        threshold = 1 - round(human_threshold(train, args), 4)
        scores = score(forest)(test)
        figures = detection.table(test, scores, threshold)
        rules = np.array([0.0 if looks_human(movement) else 1.0 for movement in job.test_movements])
        figures["rules"] = detection.table(test, rules, 0.5)
        if not args.no_leave_out:
            figures["left_out"] = dict(_left_out(train, test, args))
        importances = permutation_importance(
            forest, test.features, test.human, scoring="roc_auc", n_repeats=3, random_state=0, n_jobs=1
        ).importances_mean
        reference = np.median(train.features[train.human & train.original], axis=0)
        job.finish(
            forest,
            {"threshold": round(1 - threshold, 4), "features": list(NAMES), "reference": reference.tolist()},
            figures,
            scores,
            threshold,
            dict(zip(NAMES, importances.tolist(), strict=True)),
        )


def fit(rows: Rows, trees: int, leaves: int, seed: int) -> RandomForestClassifier:
    """(rows, features) -> P(human). Half of the trees were given a constant for everything but PATH_FEATURES."""
    path = np.isin(NAMES, PATH_FEATURES)
    masked = np.where(path, rows.features, np.float32(0))
    candidates = round(_CANDIDATES * len(NAMES) / path.sum())  # constants count among them
    whole = _forest(trees - trees // 2, leaves, _CANDIDATES, seed).fit(rows.features, rows.human, rows.weights())
    of_path = _forest(trees // 2, leaves, candidates, seed + 1).fit(masked, rows.human, rows.weights())
    whole.estimators_ += of_path.estimators_
    whole.n_estimators = len(whole.estimators_)
    return whole


def _forest(trees: int, leaves: int, candidates: int, seed: int) -> Any:
    return RandomForestClassifier(
        trees, max_features=candidates, max_leaf_nodes=leaves, min_samples_leaf=5, n_jobs=-1, random_state=seed
    )


def score(forest: RandomForestClassifier) -> Callable[[Rows], Scores]:
    return lambda rows: 1 - forest.predict_proba(rows.features)[:, 1]


def human_threshold(train: Rows, args: argparse.Namespace) -> float:
    """P(human) below which `--false_positives` of the people lie, each scored by a forest that never saw them."""
    folds = GroupKFold(_FOLDS, shuffle=True, random_state=args.seed).split(train.family, groups=_people(train))
    scores: list[NDArray[np.float64]] = []
    for known, _ in tqdm(folds, "threshold", total=_FOLDS, unit="forest", leave=False, disable=None):
        chosen = np.zeros(len(train.family), bool)
        chosen[known] = True
        forest = fit(train.where(chosen), args.trees, args.leaves, args.seed)
        people = train.where(~chosen & train.human & train.original)
        scores.append(forest.predict_proba(people.features)[:, 1])
    return float(np.quantile(np.concatenate(scores), args.false_positives))


def _people(train: Rows) -> NDArray[np.str_]:
    """Whom a fold keeps together: a person, or one in fifty movements of a device of strokes."""
    number = (np.cumsum(train.original & train.human) % 50).astype(str)
    return np.where(train.in_session, train.source, np.char.add(train.source, number))


def _left_out(train: Rows, test: Rows, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, float]]]:
    def trained(rows: Rows) -> Callable[[Rows], Scores]:
        return score(fit(rows, args.trees, args.leaves, args.seed))

    found = detection.leave_out(train, test, trained, share=0.02)
    yield from tqdm(found, "left out", unit="forest", leave=False, disable=None)


if __name__ == "__main__":
    run_script(main)
