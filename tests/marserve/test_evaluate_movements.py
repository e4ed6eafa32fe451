"""`marserve evaluate` of behaviour models that know one thing: the longer a movement takes, the more it is a bot's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from export.pack import pack
from handlers.errors import InvalidContentError, RequestError
from handlers.payload import Instance
from handlers.pipeline import Pipeline
from handlers.recordings import read_recording
from handlers.tasks import Item, Task
from handlers.trajectory import Trajectory
from marserve import evaluate_movements
from marserve.archive import read_archive
from marserve.errors import MarserveError
from marserve.evaluate_movements import BATCH, Recording, evaluate, scan
from tests.export.models import load, unpack
from tests.handlers.networks import write_scorer
from tests.marserve.conftest import evaluated_alone
from tests.marserve.test_cli import Capture, run
from training.movements import write_stroke

KEYS = ["model", "version", "recordings", "unreadable", "human_movements", "bot_movements", "threshold", "auc", "eer"]
KEYS += ["false_positives", "recall", "recall_at_2_percent", "families", "sources"]
SESSION = "client timestamp,button,state,x,y"
Run = Callable[..., tuple[int, str, str]]
Files = Mapping[str, Sequence[float] | str]  # the durations of a session's drags in ms, or what else is in the file


def pack_model(folder: Path, task: str, bias: float = 9, weight: float = 0.01) -> Path:
    """P(bot) is a half at 900 ms, whatever the task."""
    folder.mkdir(parents=True, exist_ok=True)
    network = folder / f"{task}.onnx"
    handler: dict[str, Any] = {"task": task, "features": ["duration"]}
    if task == "trajectory_classification":
        write_scorer(network, [-weight], bias, "human")
        handler |= {"labels": ["bot", "human"], "reference": [500], "threshold": 0.4}
    else:
        write_scorer(network, [2], 0, "anomaly")
        scaling = {"center": [float(np.log1p(900))], "scale": [1]}
        handler |= {"threshold": 0.6, "scaling": {"mouse": scaling, "touch": scaling}}
    output = {"trajectory_classification": "human", "trajectory_anomaly": "anomaly"}[task]
    handler["network"] = {"file": "model.onnx", "input_shape": [1], "input_type": "float32", "outputs": [output]}
    pack(folder / f"{task}.mar", task, "1", yaml.safe_dump({"handler": handler}), {}, "", {"model.onnx": network})
    return folder / f"{task}.mar"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {task: pack_model(folder, task) for task in evaluate_movements.TASKS}


@pytest.fixture(params=evaluate_movements.TASKS)
def model(request: pytest.FixtureRequest, models: dict[str, Path]) -> Path:
    return models[request.param]


def session(durations: Sequence[float]) -> str:
    rows = [SESSION]
    for start, duration in zip(range(0, 10**9, 10**5), durations, strict=False):
        rows += [f"{start + share * duration},Left,Drag,{300 * share},7" for share in np.linspace(0, 1, 12)]
        rows[-12], rows[-1] = (rows[-12].replace("Drag", "Pressed"), rows[-1].replace("Drag", "Released"))
    return "\n".join(rows) + "\n"


def fill(folder: Path, files: Files) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else session(content))
    return folder


# At the thresholds, 941 ms by the classifier and 1,102 ms by the detector, 1,000 ms is a bot for the first only.
FILES: Files = {
    "human/ann/a.csv": [100, 200, 300, 400],
    "human/ann/more/b.CSV": [500, 1500],
    "human/bob/a.csv": [600, 700],
    "bot_fast/1.csv": [250, 450],
    "bot_slow/x/y/1.csv": [1200, 1400, 1600],
    "bot_slow/2.csv": [1300],
}


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Run:
    """Evaluates an archive on such files: exit code, stdout and stderr."""

    def score(model: Path, files: Files, *options: str) -> tuple[int, str, str]:
        code = run(monkeypatch, "evaluate", model, "--data_dir", fill(tmp_path / "data", files), *options)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return score


def test_the_object_for_programs(model: Path, scored: Run) -> None:
    code, out, err = scored(model, FILES, "--json")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
    found = json.loads(out)
    assert list(found) == KEYS
    assert (found["model"], found["version"]) == (model.stem, "1")
    assert (found["recordings"], found["unreadable"]) == (6, 0)
    assert (found["human_movements"], found["bot_movements"]) == (8, 6)
    assert found["threshold"] == (0.4 if model.stem.endswith("classification") else 0.6)
    # So many of the 8 human movements are shorter than each of the slow bots, and of the fast ones.
    assert found["auc"] == pytest.approx((7 + 7 + 7 + 8 + 2 + 4) / 48)
    assert found["families"] == {
        "fast": {"movements": 2, "recall": 0, "recall_at_2_percent": 0, "auc": pytest.approx(6 / 16)},
        "slow": {"movements": 4, "recall": 1, "recall_at_2_percent": 0.25, "auc": pytest.approx(29 / 32)},
    }
    assert found["recall"] == pytest.approx(4 / 6)
    assert found["recall_at_2_percent"] == pytest.approx(1 / 6)
    assert found["false_positives"] == 1 / 8
    assert found["sources"] == {
        "ann": {"movements": 6, "false_positives": 1 / 6},
        "bob": {"movements": 2, "false_positives": 0},
    }
    assert found["eer"] == pytest.approx(1 / 3)  # between 600 and 700 ms, where 2 of 6 bots are missed


def test_the_two_tasks_agree_but_for_their_thresholds(models: dict[str, Path], scored: Run) -> None:
    files = {**FILES, "bot_slow/3.csv": [1000]}
    first, second = (json.loads(scored(model, files, "--json")[1]) for model in models.values())
    assert first["recall"] == pytest.approx(5 / 7)
    assert second["recall"] == pytest.approx(4 / 7)
    for figure in ("auc", "eer", "recall_at_2_percent", "false_positives"):
        assert first[figure] == second[figure]


def test_the_answers_are_those_of_a_worker(model: Path, tmp_path: Path) -> None:
    """In batches across files, mouse and touch, sessions and strokes."""
    random = np.random.default_rng(0)
    files = {f"human/{n}.csv": random.uniform(50, 2000, n % 5).tolist() for n in range(40)}
    folder = fill(tmp_path / "data", files)
    x, t = np.linspace(0, 200, 20), np.linspace(0, 1400, 20)
    for n in range(BATCH):
        write_stroke(folder / f"bot_touch/{n}.txt", Trajectory(x, x, t * n / BATCH, "touch"))
    pipeline = load(unpack(model, tmp_path / "model"))
    found, problems = evaluate(read_archive(model), folder)
    assert problems == []
    flagged: dict[str, list[bool]] = {"human": [], "bot_touch": []}
    for kind in flagged:
        for path in folder.glob(f"{kind}/*"):
            for movement in read_recording(path):
                points = [{"x": x, "y": y, "t": t} for x, y, t in zip(movement.x, movement.y, movement.t, strict=True)]
                body = json.dumps({"points": points, "pointer": movement.pointer}).encode()
                reply = json.loads(pipeline([{"body": body}])[0].body)
                flagged[kind].append(reply.get("flagged", reply.get("label") == "bot"))
    assert (found.human_movements, found.bot_movements) == (len(flagged["human"]), BATCH)
    assert found.false_positives == pytest.approx(np.mean(flagged["human"]))
    assert found.recall == pytest.approx(np.mean(flagged["bot_touch"]))
    assert found.sources.keys() == {""}


def test_what_is_not_there_is_null(model: Path, scored: Run) -> None:
    code, out, _ = scored(model, {"human/a.csv": [100, 2000]}, "--json")
    found = json.loads(out)
    assert code == 0
    assert [key for key in KEYS if found[key] is None] == ["auc", "eer", "recall", "recall_at_2_percent"]
    assert (found["false_positives"], found["families"]) == (0.5, {})
    code, out, _ = scored(model, {"human/a.csv": [], "bot_slow/a.csv": [2000]}, "--json")
    found = json.loads(out)
    assert code == 0
    assert [key for key in KEYS if found[key] is None] == ["auc", "eer", "false_positives", "recall_at_2_percent"]
    assert found["sources"] == {}
    assert found["families"] == {"slow": {"movements": 1, "recall": 1, "recall_at_2_percent": None, "auc": None}}


def test_unreadable_recordings_are_named_and_left_out(model: Path, scored: Run) -> None:
    broken = {f"human/cyd/{number:02}.txt": "?" for number in range(22)}
    code, out, err = scored(model, {**FILES, **broken, "bot_slow/cut.csv": session([900])[:-3]}, "--json")
    found = json.loads(out)
    assert (code, found["recordings"], found["unreadable"]) == (0, 6, 23)
    assert found["sources"].keys() == {"ann", "bob"}
    lines = err.splitlines()
    assert len(lines) == 21
    assert "/bot_slow/cut.csv: has a line that does not belong there: not enough values" in lines[0]
    assert "/human/cyd/00.txt: starts neither with" in lines[1]
    assert lines[-1] == "unreadable: 3 more"


def test_hidden_files_and_other_files_are_no_recordings(model: Path, scored: Run) -> None:
    hidden = [".git/a.csv", "human/.a.csv", "human/.old/a.csv", "human/ann/a.json", "bot_slow/x/.y/1.csv", "a.csv"]
    code, out, err = scored(model, {**FILES, **dict.fromkeys(hidden, "?")}, "--json")
    assert (code, json.loads(out)["recordings"], err) == (0, 6, "")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "data has no recordings in human/ or bot_<family>/ (.csv, .txt)"),
        ({"a.csv": [100]}, "data has no recordings in"),
        ({**FILES, "robots/a.csv": [100]}, "/robots: recordings lie in human/ and bot_<family>/, not in robots/"),
        ({**FILES, "bot_/a.csv": [100]}, "/bot_: recordings lie in human/ and bot_<family>/, not in bot_/"),
        ({**FILES, "Human/a.csv": [100]}, "/Human: recordings lie in human/ and bot_<family>/"),
        ({"human/a.csv": [], "bot_a/a.csv": SESSION}, "none of the 2 recordings in "),
        ({"human/a.csv": "?"}, "has a movement to score; "),
    ],
)
def test_a_folder_that_cannot_be_scored(files: Files, message: str, models: dict[str, Path], scored: Run) -> None:
    for options in ([], ["--json"]):
        code, out, err = scored(models["trajectory_anomaly"], files, *options)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert message in err
        assert len(err.splitlines()) == 1


def test_no_folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for place, reason in ((tmp_path / "no", "No such file or directory"), (model, "Not a directory")):
        assert run(monkeypatch, "evaluate", model, "--data_dir", place) == 2
        assert capsys.readouterr().err == f"error: cannot read {place}: {reason}\n"


def test_an_image_model_wants_images(archive: Path, scored: Run) -> None:
    code, _, err = scored(archive, FILES)
    assert code == 2
    assert "the model knows the groups animal, object, not bot_fast" in err


def test_the_report(model: Path, scored: Run) -> None:
    files = {**FILES, "human/broken.csv": "?", "bot_[b]\x1b[2J/a.csv": [100]}
    code, out, err = scored(model, files)
    assert code == 0
    assert err.startswith("unreadable: ")
    lines = out.splitlines()
    assert lines[0] == f"{model.stem}  version 1: 8 human and 7 bot movements, 1 unreadable"
    assert lines[1].startswith("AUC 0.6")
    assert lines[2].endswith(": false positives 0.1250  recall 0.5714")
    assert lines[3] == "with 2 % false positives: recall 0.1429"
    rows = [line.split() for line in lines]
    assert ["slow", "4", "1.0000", "0.2500", "0.9062"] in rows
    first = rows.index(["people", "movements", "false", "positives"]) + 2
    assert rows[first : first + 2] == [["ann", "6", "0.1667"], ["bob", "2", "0.0000"]]
    assert "[b]\N{REPLACEMENT CHARACTER}[2J" in out
    assert "\x1b" not in out


def test_the_report_of_half_the_movements(model: Path, scored: Run) -> None:
    _, out, _ = scored(model, {"bot_slow/a.csv": [2000]})
    assert "AUC -  equal error rate -" in out
    assert ["slow", "1", "1.0000", "-", "-"] in [line.split() for line in out.splitlines()]


def test_of_many_people_the_report_has_the_worst(model: Path, scored: Run) -> None:
    people = {f"human/{number:02}/a.csv": [2000 if number == 17 else 100] for number in range(25)}
    _, out, _ = scored(model, people)
    rows = [line.split() for line in out.splitlines()]
    assert rows[rows.index(["people", "movements", "false", "positives"]) + 2] == ["17", "1", "1.0000"]
    assert out.endswith("15 more, 0.0000 or better\n")


def test_nothing_heavy_is_loaded(model: Path, tmp_path: Path) -> None:
    found, heavy = evaluated_alone(model, fill(tmp_path / "data", FILES))
    assert found["human_movements"] == 8
    assert not heavy


class Stub(Task):
    """Answers every movement with one reply, or raises."""

    def __init__(self, reply: dict[str, Any] | Exception) -> None:
        self._reply = reply

    def decode(self, instance: Instance) -> Item:  # noqa: ARG002
        if isinstance(self._reply, Exception):
            raise self._reply
        return Item(None)

    def encode(self, item: Item, row: object) -> dict[str, Any]:  # noqa: ARG002
        assert isinstance(self._reply, dict)
        return self._reply


def with_stub(reply: dict[str, Any] | Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_movements, "load_model", lambda *_: (Pipeline(Stub(reply), None), None))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (ValueError("a bug"), r"fails on .*1\.csv; see the log above"),
        ({"anomaly": float("nan"), "flagged": False, "threshold": 0.5}, r"fails on .*1\.csv: its score is no number"),
        ({"score": float("nan"), "label": "bot", "threshold": 0.5}, r"fails on .*1\.csv: its score is no number"),
    ],
)
def test_a_model_that_fails(
    reply: dict[str, Any] | Exception, message: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stub(reply, monkeypatch)
    with pytest.raises(MarserveError, match=message):
        evaluate(read_archive(model), fill(tmp_path / "data", FILES))


def test_movements_that_the_model_refuses(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal: RequestError = InvalidContentError("too slow")
    with_stub(refusal, monkeypatch)
    with pytest.raises(MarserveError, match=r"none of the 1 recordings in .*a\.csv: too slow"):
        evaluate(read_archive(model), fill(tmp_path / "data", {"human/a.csv": [100, 200]}))


def test_the_place_says_who_it_was(tmp_path: Path) -> None:
    folder = fill(tmp_path, {"human/a.txt": "", "human/b/c/d.csv": "", "bot_x_y/e.csv": ""})
    assert scan(folder) == [
        Recording(folder / "bot_x_y/e.csv", "x_y", ""),
        Recording(folder / "human/a.txt", "", ""),
        Recording(folder / "human/b/c/d.csv", "", "b"),
    ]
