"""One operator for all trees, and the scores that scikit-learn gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.ensemble import IsolationForest

from export.errors import ExportError
from export.isolation_forest import convert

FEATURES = 6
TOLERANCE = 1e-6
Floats = NDArray[np.floating[Any]]


def rows(count: int, seed: int, features: int = FEATURES) -> NDArray[np.float32]:
    """(count, features), correlated; the first 50 are there twice, the last tenth lies far outside."""
    random = np.random.default_rng(seed)
    table = random.normal(size=(count, features)) @ random.normal(size=(features, features))
    table[:50] = table[50:100]
    table[-count // 10 :] *= 5
    return table.astype(np.float32)


def trained(table: Floats | None = None, **parameters: Any) -> IsolationForest:
    parameters = {"n_estimators": 20, "random_state": 0} | parameters
    return IsolationForest(**parameters).fit(rows(500, seed=1) if table is None else table)


def session(model: onnx.ModelProto, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs(model: onnx.ModelProto, table: NDArray[np.float32]) -> list[Floats]:
    return [output[:, 0] for output in session(model).run(None, {"features": table})]


def scores(model: onnx.ModelProto, table: NDArray[np.float32]) -> Floats:
    return outputs(model, table)[0]


@pytest.fixture(scope="module")
def forest() -> IsolationForest:
    return trained()


@pytest.fixture(scope="module")
def small() -> IsolationForest:
    return trained(n_estimators=3, max_samples=16)


def holed() -> NDArray[np.float32]:
    table = rows(500, seed=3)
    table[np.random.default_rng(4).random(table.shape) < 0.1] = np.nan
    return table


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n_estimators": 200},
        {"max_samples": 64},
        {"max_samples": 2},
        {"max_samples": 1.0},
        {"max_features": 0.5},
        {"max_features": 1},
        {"contamination": 0.1},
        {"bootstrap": True},
        {"bootstrap": True, "max_features": 0.7, "max_samples": 0.3, "contamination": 0.02},
        {"table": holed()},
        {"table": np.ones((300, FEATURES))},  # trees of one leaf
        {"table": np.random.default_rng(5).integers(0, 2, (300, FEATURES))},  # leaves of many rows
    ],
)
def test_the_scores_are_scikit_learns(parameters: dict[str, Any]) -> None:
    forest = trained(**parameters)
    table = np.concatenate(
        [rows(3000, seed=2), holed(), np.full((1, FEATURES), np.inf), np.full((1, FEATURES), -np.inf)]
    )
    table = table.astype(np.float32)
    got = scores(convert(forest, FEATURES), table)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, -forest.score_samples(table), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("rounded", [False, True])
def test_rows_on_and_beside_thresholds_go_where_scikit_learn_sends_them(rounded: bool) -> None:
    """With one feature, a threshold's value reaches its node. Some thresholds are float32, others lie between two."""
    forest = trained(rows(2000, seed=1, features=1), n_estimators=50)
    if rounded:
        for estimator in forest.estimators_:
            estimator.tree_.threshold[:] = estimator.tree_.threshold.astype(np.float32)
    thresholds = np.concatenate([e.tree_.threshold[e.tree_.children_left >= 0] for e in forest.estimators_])
    nearest = thresholds.astype(np.float32)
    assert (nearest == thresholds).all() if rounded else 0.4 < (nearest > thresholds).mean() < 0.6
    above, below = np.nextafter(nearest, np.float32(np.inf)), np.nextafter(nearest, -np.float32(np.inf))
    table = np.concatenate([below, nearest, above])[:, None]
    assert len(table) > 5000
    got = scores(convert(forest, 1), table)
    np.testing.assert_allclose(got, -forest.score_samples(table), rtol=0, atol=TOLERANCE)
    # This does see a row that changes sides: most steps over a threshold change the score.
    steps = np.abs(got[: len(nearest)] - got[-len(nearest) :])
    assert (steps > 10 * TOLERANCE).mean() > 0.5


def test_the_graph(forest: IsolationForest) -> None:
    model = convert(forest, FEATURES, rows_scores(forest))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node if node.domain == "ai.onnx.ml"] == ["TreeEnsembleRegressor"]
    assert len(model.graph.node) < 10
    run = session(model)
    (features,) = run.get_inputs()
    assert (features.name, features.type, features.shape) == ("features", "tensor(float)", [None, FEATURES])
    found = [(output.name, output.type, output.shape) for output in run.get_outputs()]
    assert found == [(name, "tensor(float)", [None, 1]) for name in ("score", "anomaly")]
    assert [output.name for output in convert(forest, FEATURES).graph.output] == ["score"]


def rows_scores(forest: IsolationForest) -> Floats:
    """What a calibration is: the graph's own scores of the rows that the forest knows, sorted."""
    return np.sort(scores(convert(forest, FEATURES), rows(500, seed=1)))


def test_neither_batches_nor_threads_change_a_bit() -> None:
    """Otherwise a row that is in the calibration could exceed its own score."""
    forest = trained(n_estimators=200)
    model, table = convert(forest, FEATURES, rows_scores(forest)), rows(700, seed=2)
    expected = np.stack(outputs(model, table))
    for threads in (1, 2):
        run = session(model, threads)
        for batch in (1, 7, 700):
            parts = [run.run(None, {"features": table[i : i + batch]}) for i in range(0, 700, batch)]
            assert all(part.shape == (batch, 1) for outputs in parts for part in outputs)
            got = np.stack([np.concatenate([part[i][:, 0] for part in parts]) for i in range(2)])
            np.testing.assert_array_equal(got, expected)


def test_the_same_forest_gives_the_same_bytes(forest: IsolationForest) -> None:
    first, second = (convert(forest, FEATURES, rows_scores(forest)) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_skl2onnx_itself_stays_as_it_was(forest: IsolationForest) -> None:
    convert(forest, FEATURES)
    model = to_onnx(forest, rows(100, seed=1), target_opset={"": 18, "ai.onnx.ml": 3})
    trees = [node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor"]
    assert len(trees) == len(forest.estimators_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_anomaly_is_the_share_of_lower_scores(forest: IsolationForest, dtype: type[np.floating[Any]]) -> None:
    calibration = np.sort(-forest.score_samples(rows(500, seed=1))).astype(dtype)
    score, anomaly = outputs(convert(forest, FEATURES, calibration), rows(2000, seed=2))
    expected = np.searchsorted(calibration.astype(np.float64), score.astype(np.float64), side="left") / len(calibration)
    np.testing.assert_allclose(anomaly, expected, rtol=0, atol=TOLERANCE)
    assert anomaly.max() == 1


def test_a_row_does_not_exceed_itself(forest: IsolationForest) -> None:
    calibration = rows_scores(forest)
    score, anomaly = outputs(convert(forest, FEATURES, calibration), rows(500, seed=1))
    ranks = np.searchsorted(calibration, score)
    assert (calibration[ranks] == score).all()
    np.testing.assert_allclose(anomaly, ranks / 500, rtol=0, atol=TOLERANCE)


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from([-1, 0, 1])), min_size=1, max_size=70))
@settings(deadline=None)
def test_equal_scores_are_not_lower(small: IsolationForest, places: list[tuple[int, int]]) -> None:
    """A calibration on the rows' scores, and a hair's breadth of float64 beside them."""
    table = rows(100, seed=2)
    score = scores(convert(small, FEATURES), table).astype(np.float64)
    values = np.sort([np.nextafter(score[row], score[row] + side) for row, side in places])
    _, anomaly = outputs(convert(small, FEATURES, values), table)
    np.testing.assert_allclose(anomaly, np.searchsorted(values, score) / len(values), rtol=0, atol=TOLERANCE)
    assert anomaly.max() <= 1


def test_what_is_no_trained_forest_is_refused(forest: IsolationForest) -> None:
    with pytest.raises(ExportError, match="not trained: call its fit"):
        convert(IsolationForest(), FEATURES)
    with pytest.raises(ExportError, match="trained on 6 features, not on 7"):
        convert(forest, FEATURES + 1)
    with pytest.raises(ExportError, match="raise max_samples"):
        convert(trained(max_samples=1), FEATURES)


@pytest.mark.parametrize(
    ("calibration", "complaint"),
    [
        ([], r"must be a vector of scores, not an array \(0,\)"),
        ([[0.5]], r"not an array \(1, 1\)"),
        ([-0.4, -0.5], r"must be in \(0, 1\], as -score_samples gives them"),
        ([0.4, 0.0], r"must be in \(0, 1\]"),
        ([0.4, 1.5], r"must be in \(0, 1\]"),
        ([0.4, np.nan], r"must be in \(0, 1\]"),
    ],
)
def test_what_is_no_calibration_is_refused(forest: IsolationForest, calibration: list[Any], complaint: str) -> None:
    with pytest.raises(ExportError, match=complaint):
        convert(forest, FEATURES, np.array(calibration))
