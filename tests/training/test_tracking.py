"""A real MLflow store: the default file, a server that is down, and one that goes down in the middle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.people import write_people
from tests.training.photos import write_photos
from training import random_forest_ai, tracking
from training.cli import DataError
from training.network import ImageClassifier
from training.train_image import main

pytestmark = [
    # What MLflow's own dependencies warn of.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TINY = ["--input_size=32", "--batch_size=8", "--epochs=2", "--workers=0", "--validation_share=0.25"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def data_dir(folder: Path) -> Path:
    return write_photos(folder / "images")


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory that the default store lies in; one for all tests, for making it takes seconds."""
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "")  # so that what `connect` sets ends with the test
        monkeypatch.delenv(name)
    return folder


def runs(experiment: str) -> Any:
    import mlflow

    return mlflow.search_runs(experiment_names=[experiment], output_format="list", order_by=["start_time"])


def test_a_training_is_recorded(here: Path, data_dir: Path) -> None:
    main([f"--data_dir={data_dir}", "--output_dir=models", "--experiment=recorded", *TINY])
    import mlflow

    (run,) = runs("recorded")
    assert (here / "mlflow.db").is_file()
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.0003"
    assert len(run.data.params["fingerprint_sha256"]) == 64
    client = mlflow.MlflowClient()
    for metric in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert [point.step for point in client.get_metric_history(run.info.run_id, metric)] == [1, 2]
    assert "report/index.html" in [item.path for item in client.list_artifacts(run.info.run_id, "report")]

    (logged,) = mlflow.search_logged_models(experiment_ids=[run.info.experiment_id], output_format="list")
    signature = mlflow.models.get_model_info(logged.model_uri).signature
    assert [tensor.shape for tensor in (*signature.inputs, *signature.outputs)] == [(-1, 3, 32, 32), (-1, 2)]
    model = mlflow.pytorch.load_model(logged.model_uri)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    own = ImageClassifier([0, 0, 1, 1]).eval()
    own.load_state_dict(torch.load(here / "models" / "best_model.pth", weights_only=True))
    with torch.inference_mode():
        torch.testing.assert_close(model(pixels), own(pixels), rtol=1e-4, atol=1e-5)


def test_a_resumed_training_stays_one_run(here: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import runner

    options = [f"--data_dir={data_dir}", "--output_dir=resumed", "--experiment=resumed", *TINY]
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            main(options)
    (run,) = runs("resumed")
    assert run.info.status == "KILLED"
    main([*options, "--resume"])
    (again,) = runs("resumed")
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")


def test_folds_are_nested_runs(here: Path, data_dir: Path) -> None:
    main([f"--data_dir={data_dir}", "--output_dir=folds", "--experiment=folds", "--folds=2", *TINY])
    parent, *children = runs("folds")
    assert [run.info.run_name for run in children] == ["fold_1", "fold_2"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    accuracies = [run.data.metrics["val_accuracy"] for run in children]
    assert min(accuracies) <= parent.data.metrics["accuracy_mean"] <= max(accuracies)


def test_trials_are_nested_runs(here: Path, data_dir: Path) -> None:
    main([f"--data_dir={data_dir}", "--output_dir=tuned", "--experiment=tuned", "--tune=2", *TINY])
    parent, *children = runs("tuned")
    assert [run.info.run_name for run in children] == ["trial_1", "trial_2"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert all(run.data.tags["outcome"].startswith(("complete", "pruned")) for run in children)
    assert children[0].data.params["learning_rate"] != children[1].data.params["learning_rate"]


def test_a_server_that_is_down_is_said_at_once(here: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(DataError, match=r"MLflow at http://127.0.0.1:9 \(MLFLOW_TRACKING_URI\) does not answer"):
        main([f"--data_dir={data_dir}", "--output_dir=never", *TINY])
    assert time.monotonic() - started < 60
    assert not (here / "never").exists()


def test_a_store_that_cannot_be_opened(here: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/none/mlflow.db")
    with pytest.raises(DataError, match="does not answer"):
        main([f"--data_dir={data_dir}", "--output_dir=never", *TINY])


def test_a_record_that_fails_does_not_cost_the_training(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracking.connect("lost")
    with tracking.run("lost") as run:
        run.log_parameters({"a": 1})
        run.log_parameters({"a": 2})  # MLflow refuses to change one
        run.log_scores({"val_loss": 0.5}, 1)
    assert capsys.readouterr().err.count("warning: MLflow did not take a record: ") == 1
    assert [found.data.metrics for found in runs("lost")] == [{"val_loss": 0.5}]


def test_no_run_records_nothing() -> None:
    with tracking.no_run() as run:
        run.log_scores({"epoch": 1, "val_loss": 1.0}, 1)
        run.tag("a", "b")
        assert run.id is None
    assert not Path("mlflow.db").exists()


def test_a_training_on_movements_is_recorded(here: Path) -> None:
    import mlflow

    data = write_people(here / "mouse")
    options = ["--output_dir=drag", "--experiment=movements", "--trees=4", "--no_leave_out", "--test_share=0.25"]
    random_forest_ai.main([f"--data_dir={data}", *options])
    (run,) = runs("movements")
    assert run.info.status == "FINISHED"
    assert run.data.params["trees"] == "4"
    assert {"auc", "equal_error_rate", "false_positives", "recall"} <= set(run.data.metrics)
    model = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    with np.load(here / "drag" / "rows.npz") as file:
        assert model.predict_proba(file["features"]).shape == (len(file["features"]), 2)
