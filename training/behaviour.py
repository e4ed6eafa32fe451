"""What the trainings on movements share: their arguments, their parts of the data, and the files they leave."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import skops.io
from sklearn.base import BaseEstimator

from handlers.trajectory import Trajectory
from training import tracking
from training.behaviour_report import write_report
from training.cli import DataError
from training.detection import Rows, Scores, read_test, rows_of, write_test
from training.movements import Recording, fingerprint, hold_out, scan

MODEL, META, ROWS, TEST = "model.skops", "meta.json", "rows.npz", "test"
_MOST_PROBLEMS = 5


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--data_dir", type=Path, required=True, help="sessions/<person>/*.csv, strokes/<kind>/*.txt")
    parser.add_argument("--output_dir", type=Path, default=Path("models") / name, help="default: %(default)s")
    parser.add_argument("--test_share", type=float, default=0.2, help="of the people, kept out (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides parts, bots and forest (default: %(default)s)")
    parser.add_argument("--experiment", default=name, help="its name in MLflow (default: %(default)s)")
    parser.add_argument("--no_mlflow", action="store_true", help="keep no record in MLflow")


def check(args: argparse.Namespace, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raises DataError for an option out of its range, both ends of which are allowed."""
    for name, (low, high) in {"test_share": (0.05, 0.5), "seed": (0, 2**32 - 2), **ranges}.items():
        if not low <= getattr(args, name) <= high:  # NaN too
            raise DataError(f"--{name} must lie between {low:g} and {high:g}")


@dataclass(frozen=True, slots=True)
class Job:
    """One training: its rows, and where its files go."""

    script: str
    args: argparse.Namespace
    train: Sequence[Recording]
    test_rows: Rows
    test_movements: list[Trajectory]
    data: Mapping[str, Any]
    record: tracking.Run

    @classmethod
    @contextmanager
    def begin(cls, script: str, args: argparse.Namespace, free: bool = False) -> Iterator[Job]:
        """Read, split, synthesise. `free` trains on the movements between the drags too. Raises DataError."""
        folder = args.output_dir
        if (folder / META).exists():
            raise DataError(f"{folder} holds a training; choose another --output_dir or remove it")
        if not args.no_mlflow:
            tracking.connect(args.experiment)
        recordings, problems = scan(args.data_dir, free)
        for problem in problems[:_MOST_PROBLEMS]:
            print(f"skipped: {problem}", file=sys.stderr)
        if len(problems) > _MOST_PROBLEMS:
            print(f"skipped: {len(problems) - _MOST_PROBLEMS:,} more", file=sys.stderr)
        train, test = hold_out(recordings, args.test_share, args.seed)
        try:
            shutil.rmtree(folder / TEST, ignore_errors=True)  # of a training that was interrupted
            write_test(test, folder / TEST, args.seed)
        except OSError as error:
            raise DataError(f"cannot write {folder}: {error.strerror}") from None
        entries = read_test(folder / TEST, free)
        data = {
            "people": len({r.source for r in recordings if r.family == "human"}),
            "human_movements": sum(len(r.movements) for r in recordings if r.family == "human"),
            "training_movements": sum(len(r.movements) for r in train if r.family == "human"),
            "skipped_files": len(problems),
            "fingerprint_sha256": fingerprint(recordings),
        }
        print(
            f"{data['people']} people and devices, {data['human_movements']:,} movements; "
            f"{data['training_movements']:,} of them to train on; {len(entries):,} of people and bots to test on"
        )
        with tracking.no_run() if args.no_mlflow else tracking.run(folder.name) as record:
            yield cls(
                f"training/{Path(script).name}",
                args,
                train,
                rows_of(entries),
                [entry.movement for entry in entries],
                data,
                record,
            )

    @property
    def recipe(self) -> dict[str, Any]:
        """The options that decide the result."""
        aside = ("data_dir", "output_dir", "experiment", "no_mlflow", "no_leave_out", "choose")
        return {name: value for name, value in vars(self.args).items() if name not in aside}

    def finish(
        self,
        model: BaseEstimator,
        serving: Mapping[str, Any],
        figures: Mapping[str, Any],
        scores: Scores,
        threshold: float,
        importances: Mapping[str, float],
    ) -> None:
        """Write model, meta.json, rows and report, and tell MLflow. `scores` of the test are higher for bots."""
        folder = self.args.output_dir
        meta: dict[str, Any] = {
            "architecture": f"scikit-learn {type(model).__name__}",
            "script": self.script,
            "recipe": self.recipe,
            "serving": dict(serving),
            "metrics": dict(figures),
            "importances": dict(importances),
            "data": dict(self.data),
            "versions": {name: version(name) for name in ("scikit-learn", "numpy", "scipy", "skops")},
            "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            np.savez(folder / ROWS, features=self.test_rows.features, touch=self.test_rows.touch)
            skops.io.dump(model, folder / MODEL)
            page = write_report(folder / "report", meta, self.test_rows, self.test_movements, scores, threshold)
            (folder / META).write_text(json.dumps(meta, indent=2) + "\n")
        except OSError as error:
            raise DataError(f"cannot write {folder}: {error.strerror}") from None
        self.record.log_parameters(self.recipe | meta["data"])
        self.record.log_scores(
            {name: figures[name] for name in ("auc", "equal_error_rate", "false_positives", "recall")}, 0
        )
        self.record.log_folder(page.parent, "report")
        self.record.log_forest(model, self.test_rows.features[:5])
        print(
            f"AUC {figures['auc']:.4f}, recall {figures['recall']:.4f} at {figures['false_positives']:.4f} false "
            f"positives on unseen people: {folder / MODEL}, {page}"
        )


def load(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The forest and meta.json of a finished training. Raises DataError."""
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text())
        # A forged tree can crash the process that predicts with it: load what you trained yourself.
        model = skops.io.load(folder / MODEL, trusted=["sklearn.tree._tree.Tree"])
    except (OSError, ValueError, TypeError, KeyError, BadZipFile) as error:
        raise DataError(f"{folder} holds no finished training: {error}") from None
    return model, meta
