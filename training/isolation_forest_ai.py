"""Train an isolation forest to say how unusual a person's movement would be; it never sees a bot.

    python training/isolation_forest_ai.py --data_dir data/mouse --output_dir models/ticket_slice

Drags, strokes and the free movements between them teach it. The output folder gets the same files as that of
random_forest_ai.py. Bots serve only to measure it, and with --choose to find the features that tell most.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from handlers.trajectory import NAMES, compress
from training import behaviour, detection
from training.bots import FAMILIES
from training.cli import run_script
from training.detection import Rows

# What --choose found, on bots synthesised in place of the people that are trained on.
CHOSEN = (
    "turn_variation", "max_acceleration", "max_deviation", "bending_variation", "curve_residual", "slow_speed",
    "mean_angular_velocity", "interval_variation", "y_direction_changes",
)  # fmt: skip
_CHOICE_ROWS = 4000  # people's and, of each family, bots' movements that a choice is made on
_CHOICE_TREES = 50
_MOST_CHOSEN = 12
CALIBRATION = 1000  # scores kept for "the share of people less anomalous"

Scaling = dict[str, dict[str, list[float]]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train an isolation forest on people's movements.")
    behaviour.add_arguments(parser, "ticket_slice")
    parser.add_argument("--trees", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--samples", type=int, default=512, help="movements that a tree sees (default: %(default)s)")
    parser.add_argument(
        "--features", nargs="+", default=CHOSEN, choices=NAMES, metavar="NAME", help=f"default: {' '.join(CHOSEN)}"
    )
    parser.add_argument("--choose", action="store_true", help="print the features that tell most, and train on them")
    parser.add_argument(
        "--threshold", type=float, default=0.97, help="anomaly above which one is flagged (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    behaviour.check(args, {"trees": (1, 2000), "samples": (2, 100_000), "threshold": (0.5, 1)})
    with behaviour.Job.begin(__file__, args, free=True) as job:
        people, calibrating = _apart(detection.human_rows(job.train), args.seed)
        if args.choose:
            args.features = choose(people, detection.training_rows(job.train, args.seed, variations=False), args.seed)
            print("chosen:", " ".join(args.features))
        names = list(args.features)
        scaling = fit_scaling(people, names)
        forest = IsolationForest(n_estimators=args.trees, max_samples=args.samples, random_state=args.seed)
        forest.fit(normalise(people.features, people.touch, names, scaling))
        known = np.sort(-forest.score_samples(normalise(calibrating.features, calibrating.touch, names, scaling)))
        known = known[np.linspace(0, len(known) - 1, min(CALIBRATION, len(known))).round().astype(int)]
        test = job.test_rows
        rows = normalise(test.features, test.touch, names, scaling)
        scores = anomaly(forest, known, rows)
        figures = detection.table(test, scores, args.threshold)

        def auc(_: IsolationForest, shuffled: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
            return float(roc_auc_score(truth, -forest.score_samples(shuffled)))

        importances = permutation_importance(forest, rows, ~test.human, scoring=auc, n_repeats=3, random_state=0)
        serving = {"threshold": args.threshold, "features": names, "scaling": scaling, "calibration": known.tolist()}
        weights = dict(zip(names, importances.importances_mean.tolist(), strict=True))
        job.finish(forest, serving, figures, scores, args.threshold, weights)


def fit_scaling(people: Rows, names: Sequence[str]) -> Scaling:
    """Median and interquartile range of every compressed feature, of each pointer by itself; a pointer of which there
    are too few movements takes those of all."""
    values = compress(people.features[:, [NAMES.index(name) for name in names]])
    scaling = {}
    for pointer, chosen in (("mouse", ~people.touch), ("touch", people.touch)):
        of_pointer = values[chosen] if chosen.sum() >= 20 else values
        low, centre, high = np.percentile(of_pointer, (25, 50, 75), axis=0)
        scale = np.where(high - low > 1e-6, high - low, np.maximum(of_pointer.std(axis=0), 1e-3))
        scaling[pointer] = {"center": centre.tolist(), "scale": scale.tolist()}
    return scaling


def normalise(
    features: NDArray[np.float32],
    touch: NDArray[np.bool_],
    names: Sequence[str],
    scaling: Mapping[str, Mapping[str, Sequence[float]]],
) -> NDArray[np.float32]:
    """All features of movements, and whether touch made them -> (rows, names), as tasks/trajectory_anomaly.py does."""
    values = compress(features[:, [NAMES.index(name) for name in names]])
    for pointer, chosen in (("mouse", ~touch), ("touch", touch)):
        centre, scale = (np.array(scaling[pointer][key], np.float32) for key in ("center", "scale"))
        values[chosen] = (values[chosen] - centre) / scale
    return values


def anomaly(forest: IsolationForest, known: NDArray[np.float64], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of `known`, sorted scores of people, below the score of each row."""
    return np.asarray(np.searchsorted(known, -forest.score_samples(rows)) / len(known))


def choose(people: Rows, bots: Rows, seed: int) -> list[str]:
    """Features added one by one, always the one with which a small forest has the highest mean AUC over the families,
    until none adds to it. Only synthesised bots choose: those that were recorded stay unseen."""
    random = np.random.default_rng(seed)
    synthesised = [family for family in bots.families if family in FAMILIES]
    kept = np.concatenate(
        [
            random.permutation(np.flatnonzero(bots.family == family))[: _CHOICE_ROWS // 8]
            for family in ["human", *synthesised]
        ]
    )
    judged = bots.where(np.isin(np.arange(len(bots.family)), kept))
    taught = people.where(np.isin(np.arange(len(people.family)), random.permutation(len(people.family))[:_CHOICE_ROWS]))
    chosen: list[str] = []
    best = 0.0
    with tqdm(total=_MOST_CHOSEN, desc="choosing", unit="feature", leave=False, disable=None) as bar:
        while len(chosen) < _MOST_CHOSEN:
            tried = {name: _mean_auc(taught, judged, [*chosen, name], seed) for name in NAMES if name not in chosen}
            name = max(tried, key=lambda candidate: tried[candidate])
            if tried[name] <= best + 1e-4:
                break
            best = tried[name]
            chosen.append(name)
            bar.set_postfix(auc=f"{best:.4f}")
            bar.update()
    return chosen


def _mean_auc(taught: Rows, judged: Rows, names: Sequence[str], seed: int) -> float:
    scaling = fit_scaling(taught, names)
    forest = IsolationForest(n_estimators=_CHOICE_TREES, max_samples=min(256, len(taught.family)), random_state=seed)
    forest.fit(normalise(taught.features, taught.touch, names, scaling))
    scores = -forest.score_samples(normalise(judged.features, judged.touch, names, scaling))
    return float(np.mean([detection.auc(judged, scores, family) for family in judged.families]))


def _apart(people: Rows, seed: int) -> tuple[Rows, Rows]:
    """To teach the forest, and to calibrate it on people that it has not seen: a quarter of the people, and of the
    strokes a quarter of every device's movements."""
    random = np.random.default_rng(seed)
    names = np.unique(people.source[people.in_session])
    apart = np.where(
        ~people.in_session,
        random.random(len(people.in_session)) < 0.25,
        np.isin(people.source, random.permutation(names)[: max(1, len(names) // 4)]),
    )
    return people.where(~apart), people.where(apart)


if __name__ == "__main__":
    run_script(main)
