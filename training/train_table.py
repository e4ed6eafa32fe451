"""Train a random forest on a table of numbers, to tell its labels apart.

    python training/train_table.py --data table.csv --output_dir models/NAME

The table is a CSV file with names in its first line: one column has the label, every other one is a feature. The output
folder gets the forest (`model.skops`), `meta.json`, and the rows that were kept out of the training: `test.csv`, and
`rows.npz` for the export's parity gate. MLflow keeps the scores, see tracking.py.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split

from training import tracking
from training.behaviour import META, MODEL, ROWS
from training.cli import DataError, run_script

TEST = "test.csv"
_ASIDE = ("data", "output_dir", "experiment", "no_mlflow")  # options that do not decide the result


@dataclass(frozen=True, slots=True)
class Table:
    features: list[str]
    values: NDArray[np.float32]  # (rows, features)
    labels: list[str]  # of the rows


def read_table(path: Path, label: str) -> Table:
    """Raises DataError, with the line, for what is no table of numbers."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if label not in head:
        raise DataError(f"{path} has no column {label!r} for the label (--label); it has {', '.join(head) or 'none'}")
    at = head.index(label)
    features = head[:at] + head[at + 1 :]
    if not features or len(set(features)) < len(features):
        raise DataError(f"{path} needs columns of numbers beside {label!r}, each with a name of its own")
    values = np.empty((len(rows), len(features)), np.float32)
    for number, row in enumerate(rows):
        if len(row) != len(head):
            raise DataError(f"{path}: row {number + 1} has {len(row)} columns, the first line {len(head)}")
        try:
            values[number] = [float(text) for text in row[:at] + row[at + 1 :]]
        except ValueError as error:
            raise DataError(f"{path}: row {number + 1}: {error}") from None
        if not np.isfinite(values[number]).all():
            raise DataError(f"{path}: row {number + 1} has a number that is not finite in float32")
    return Table(features, values, [row[at] for row in rows])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a random forest on a table of numbers.")
    parser.add_argument("--data", type=Path, required=True, help="CSV with names in the first line")
    parser.add_argument("--label", default="label", help="the column that has it (default: %(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("models"), help="default: %(default)s")
    parser.add_argument("--trees", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--leaves", type=int, default=200, help="of a tree, at most (default: %(default)s)")
    parser.add_argument("--test_share", type=float, default=0.2, help="of every label (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides the parts and the forest (default: %(default)s)")
    parser.add_argument("--experiment", default="tables", help="its name in MLflow (default: %(default)s)")
    parser.add_argument("--no_mlflow", action="store_true", help="keep no record in MLflow")
    args = parser.parse_args(argv)
    for name, low, high in (("trees", 1, 2000), ("leaves", 2, 100_000), ("seed", 0, 2**32 - 1)):
        if not low <= getattr(args, name) <= high:
            raise DataError(f"--{name} must lie between {low} and {high}")
    if not 0 < args.test_share < 1:
        raise DataError("--test_share must lie between 0 and 1")
    if (args.output_dir / META).exists():
        raise DataError(f"{args.output_dir} holds a training; choose another --output_dir or remove it")
    table = read_table(args.data, args.label)
    if not args.no_mlflow:
        tracking.connect(args.experiment)
    with tracking.no_run() if args.no_mlflow else tracking.run(args.output_dir.name) as record:
        _train(args, table, record)


def _train(args: argparse.Namespace, table: Table, record: tracking.Run) -> None:
    labels = sorted(set(table.labels))
    truth = np.array([labels.index(label) for label in table.labels])
    try:
        train, test = train_test_split(
            np.arange(len(truth)), test_size=args.test_share, random_state=args.seed, stratify=truth
        )
    except ValueError as error:
        raise DataError(f"{args.data}: too few rows to keep some of every label out: {error}") from None
    forest = RandomForestClassifier(args.trees, max_leaf_nodes=args.leaves, random_state=args.seed)
    forest.fit(table.values[train], truth[train])
    predicted = forest.predict(table.values[test])
    metrics = {
        "test_accuracy": float(accuracy_score(truth[test], predicted)),
        "test_macro_f1": float(f1_score(truth[test], predicted, average="macro", zero_division=0)),
        "majority_class": float(np.bincount(truth[test]).max() / len(test)),
    }
    meta: dict[str, Any] = {
        "architecture": "scikit-learn RandomForestClassifier",
        "script": "training/train_table.py",
        "recipe": {name: value for name, value in vars(args).items() if name not in _ASIDE},
        "serving": {"features": table.features, "labels": labels},
        "metrics": metrics,
        "data": {
            "rows": len(truth),
            "rows_per_label": dict(Counter(table.labels)),
            "training_rows": len(train),
            "test_rows": len(test),
            "fingerprint_sha256": hashlib.sha256(args.data.read_bytes()).hexdigest(),
        },
        "versions": {name: version(name) for name in ("scikit-learn", "numpy", "scipy", "skops")},
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder: Path = args.output_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / TEST).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*table.features, args.label])
            writer.writerows([*table.values[row].tolist(), table.labels[row]] for row in test)
        np.savez(folder / ROWS, features=table.values[test])
        skops.io.dump(forest, folder / MODEL)
        (folder / META).write_text(json.dumps(meta, indent=2) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}") from None
    record.log_parameters(meta["recipe"] | meta["data"])
    record.log_scores(metrics, 0)
    record.log_forest(forest, table.values[test][:5])
    print(
        f"accuracy {metrics['test_accuracy']:.4f} on {len(test):,} unseen rows, where saying the commonest label "
        f"alone has {metrics['majority_class']:.4f}: {folder / MODEL}"
    )


if __name__ == "__main__":
    run_script(main)
