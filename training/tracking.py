"""What MLflow keeps of a training: the recipe, every epoch's scores, the best model, the report.

Without MLFLOW_TRACKING_URI the store is the file `mlflow.db` in the working directory, and needs no server. The store
is tried before a training starts; should it fail later, the training goes on without it.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.cli import DataError

if TYPE_CHECKING:  # imports torch, which takes seconds
    from training.network import ImageClassifier

DEFAULT_STORE = "sqlite:///mlflow.db"
_MAX_LINE = 160


class Run:
    """One run in the store, or none: with `id` None every method returns at once."""

    def __init__(self, run_id: str | None) -> None:
        self.id = run_id

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        self._try(lambda mlflow: mlflow.log_params(dict(parameters), run_id=self.id))

    def log_scores(self, scores: Mapping[str, float], step: int) -> None:
        metrics = {name: value for name, value in scores.items() if name != "epoch"}
        self._try(lambda mlflow: mlflow.log_metrics(metrics, step=step, run_id=self.id))

    def tag(self, name: str, value: str) -> None:
        self._try(lambda mlflow: mlflow.MlflowClient().set_tag(self.id, name, value))

    def log_folder(self, folder: Path, name: str) -> None:
        self._try(lambda mlflow: mlflow.log_artifacts(str(folder), name, run_id=self.id))

    def log_model(self, model: ImageClassifier, input_size: int, requirements: list[str]) -> None:
        """The model as `mlflow.pytorch` loads it, with the signature uint8 (B, 3, H, W) -> float (B, groups)."""

        def log(mlflow: Any) -> None:
            from mlflow.models import ModelSignature
            from mlflow.types.schema import Schema, TensorSpec

            pixels = TensorSpec(np.dtype(np.uint8), (-1, 3, input_size, input_size), "pixels")
            probabilities = TensorSpec(np.dtype(np.float32), (-1, model.membership.shape[1]), "probabilities")
            mlflow.pytorch.log_model(
                model,
                name="model",
                signature=ModelSignature(Schema([pixels]), Schema([probabilities])),
                pip_requirements=requirements,
                serialization_format="pt2",  # a graph: loads without this code, and cannot run any other
                input_example=np.zeros((2, 3, input_size, input_size), np.uint8),
            )

        self._try(log)

    def log_forest(self, forest: Any, rows: NDArray[np.float32]) -> None:
        """A scikit-learn model as `mlflow.sklearn` loads it, with the signature of what it makes of `rows`."""

        def log(mlflow: Any) -> None:
            from mlflow.models import infer_signature

            predicted = forest.predict_proba(rows) if hasattr(forest, "predict_proba") else forest.score_samples(rows)
            mlflow.sklearn.log_model(
                forest,
                name="model",
                signature=infer_signature(rows, predicted),
                pip_requirements=[f"scikit-learn=={version('scikit-learn')}", f"skops=={version('skops')}"],
                serialization_format="skops",  # holds no code, unlike a pickle
                skops_trusted_types=["sklearn.tree._tree.Tree"],
            )

        self._try(log)

    def _try(self, log: Callable[[Any], object]) -> None:
        if self.id is None:
            return
        try:
            with warnings.catch_warnings(action="ignore"):
                log(_mlflow())
        except Exception as error:  # whatever the store or the network raise: it must not cost the training
            print(f"warning: MLflow did not take a record: {_first_line(error)}", file=sys.stderr)


def connect(experiment: str) -> None:
    """Try the store, and choose the experiment. Raises DataError where the store cannot be reached."""
    # MLflow's own patience is minutes; here it would look as if the training hung.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    try:
        with warnings.catch_warnings(action="ignore"):
            mlflow = _mlflow()
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment(experiment)
    except Exception as error:  # SQLAlchemy's, requests' and MLflow's own
        where = "MLFLOW_TRACKING_URI" if os.environ.get("MLFLOW_TRACKING_URI") else "the default store"
        raise DataError(
            f"MLflow at {uri} ({where}) does not answer: {_first_line(error)}; start it, unset MLFLOW_TRACKING_URI, "
            "or train with --no_mlflow"
        ) from None


@contextmanager
def run(name: str, run_id: str | None = None, nested: bool = False) -> Iterator[Run]:
    """A new run, or the one with `run_id` again; marked as failed or killed when it ends so. `connect` comes first."""
    mlflow = _mlflow()
    started = mlflow.start_run(run_id=run_id, run_name=None if run_id else name, nested=nested)
    status = "FAILED"
    try:
        yield Run(started.info.run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow.end_run(status)


@contextmanager
def no_run() -> Iterator[Run]:
    """Where nothing is to be recorded."""
    yield Run(None)


def _mlflow() -> Any:
    """Imported where it is used: it takes seconds."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    return mlflow


def _first_line(error: Exception) -> str:
    line = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {line[:_MAX_LINE]}{'...' if len(line) > _MAX_LINE else ''}"
