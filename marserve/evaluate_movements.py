"""`marserve evaluate` of a behaviour model: how well it tells people's movements from bots', without a server."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from handlers.errors import InternalError, RequestError
from handlers.pipeline import Pipeline
from handlers.recordings import SUFFIXES, RecordingError, read_recording
from handlers.reply import Answer
from handlers.trajectory import Trajectory
from marserve import metrics
from marserve.archive import Archive
from marserve.errors import DataError, MarserveError
from marserve.evaluate import Problem
from marserve.model import load_model

TASKS = ("trajectory_classification", "trajectory_anomaly")
BATCH = 32  # movements that are answered together
FALSE_POSITIVES = 0.02  # of which `recall_at_2_percent` is
HUMAN, _BOT = "human", "bot_"


@dataclass(frozen=True, slots=True)
class FamilyScores:
    """Of one kind of bot. Null without human movements: what needs them."""

    movements: int
    recall: float  # caught at the archive's threshold
    recall_at_2_percent: float | None
    auc: float | None  # against all human movements


@dataclass(frozen=True, slots=True)
class SourceScores:
    """Of one folder of people's movements: the share that is taken for a bot's, at the archive's threshold."""

    movements: int
    false_positives: float


@dataclass(frozen=True, slots=True)
class MovementEvaluation:
    """What `--json` prints, field by field. Figures are null where there are no movements that they need.

    All come from the replies, whose scores have six decimals; `marserve.metrics` says what each one is.
    """

    model: str
    version: str
    recordings: int  # files that were read
    unreadable: int  # files that were not, and movements that the model refuses
    human_movements: int
    bot_movements: int
    threshold: float  # the archive's, as it stands in the replies
    auc: float | None
    eer: float | None
    false_positives: float | None  # share of the human movements taken for a bot's, at the archive's threshold
    recall: float | None  # share of the bots' movements caught, at the archive's threshold
    recall_at_2_percent: float | None  # where at most 2 % of these human movements would be taken for a bot's
    families: Mapping[str, FamilyScores]
    sources: Mapping[str, SourceScores]  # the folders below human/; "" for what lies in human/ itself


@dataclass(frozen=True, slots=True)
class Recording:
    path: Path
    family: str  # "" for a person's
    source: str  # the folder below human/ that it lies in, at any depth


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """One per movement, all (movements,)."""

    family: NDArray[np.str_]
    source: NDArray[np.str_]
    score: metrics.Floats  # higher for bots
    flagged: NDArray[np.bool_]

    @property
    def human(self) -> NDArray[np.bool_]:
        return np.asarray(self.family == "")


def evaluate(archive: Archive, folder: Path) -> tuple[MovementEvaluation, list[Problem]]:
    """Send every movement of a labelled folder through the archive's model; the figures, and what has no answer.

    Raises DataError for a folder that is not laid out as `scan` wants it or that has no movement in it, and
    MarserveError for an archive that cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="marserve-evaluate-") as scratch:
        pipeline, _ = load_model(archive.path, Path(scratch, "model"), TASKS)
        free = archive.handler.get("task") == "trajectory_anomaly"  # taught by the movements between the drags too
        recordings = scan(folder)
        problems: list[Problem] = []
        answered: list[tuple[Recording, Mapping[str, Any]]] = []
        for recording, answer in _answers(pipeline, recordings, free, problems):
            if isinstance(answer, RequestError):
                problems.append((recording.path, answer.message))
            else:
                answered.append((recording, answer))
    if not answered:
        reason = f"; {problems[0][0]}: {problems[0][1]}" if problems else ""
        raise DataError(f"none of the {len(recordings):,} recordings in {folder} has a movement to score{reason}")
    broken = {path for path, _ in problems} - {recording.path for recording, _ in answered}
    return _score(archive, answered, len(recordings) - len(broken), len(problems)), problems


def scan(folder: Path) -> list[Recording]:
    """All recordings in `human/` and `bot_<family>/`, at any depth, sorted. Hidden files and folders are none.

    Raises DataError for another folder beside them, or for no recordings.
    """
    try:
        places = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None
    found = []
    for place in places:
        family = "" if place.name == HUMAN else place.name.removeprefix(_BOT)
        if family == place.name or place.name == _BOT:
            raise DataError(f"{place}: recordings lie in {HUMAN}/ and {_BOT}<family>/, not in {place.name}/")
        for path in sorted(place.rglob("*")):
            inner = path.relative_to(place).parts
            hidden = any(part.startswith(".") for part in inner)
            if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
                found.append(Recording(path, family, inner[0] if len(inner) > 1 else ""))
    if not found:
        raise DataError(f"{folder} has no recordings in {HUMAN}/ or {_BOT}<family>/ ({', '.join(SUFFIXES)})")
    return found


def _answers(
    pipeline: Pipeline, recordings: Sequence[Recording], free: bool, problems: list[Problem]
) -> Iterator[tuple[Recording, Answer]]:
    """Every movement's answer, in order; what cannot be read goes to `problems`. A terminal shows a bar meanwhile."""
    hidden = not sys.stderr.isatty()
    waiting: list[tuple[Recording, Trajectory]] = []
    for recording in track(recordings, "evaluating", console=Console(stderr=True), transient=True, disable=hidden):
        try:
            waiting += [(recording, movement) for movement in read_recording(recording.path, free)]
        except RecordingError as error:
            problems.append((recording.path, str(error)))
        while len(waiting) >= BATCH:
            yield from _answer(pipeline, waiting[:BATCH])
            del waiting[:BATCH]
    yield from _answer(pipeline, waiting)


def _answer(pipeline: Pipeline, batch: Sequence[tuple[Recording, Trajectory]]) -> list[tuple[Recording, Answer]]:
    answers = pipeline.answer([_instance(movement) for _, movement in batch])
    for (recording, _), answer in zip(batch, answers, strict=True):
        if isinstance(answer, InternalError):
            raise MarserveError(f"the model fails on {recording.path}; see the log above")
        if isinstance(answer, dict) and not math.isfinite(_bot_score(answer)):  # a server would answer with an error
            raise MarserveError(f"the model fails on {recording.path}: its score is no number")
    return [(recording, answer) for (recording, _), answer in zip(batch, answers, strict=True)]


def _instance(movement: Trajectory) -> dict[str, Any]:
    """A request's, in the compact form."""
    axes = {"x": movement.x.tolist(), "y": movement.y.tolist(), "t": movement.t.tolist()}
    return {**axes, "pointer": movement.pointer}


def _bot_score(reply: Mapping[str, Any]) -> float:
    return float(reply["anomaly"] if "anomaly" in reply else 1 - reply["score"])


def _score(
    archive: Archive, answered: Sequence[tuple[Recording, Mapping[str, Any]]], read: int, unreadable: int
) -> MovementEvaluation:
    replies = [reply for _, reply in answered]
    verdicts = _Verdicts(
        np.array([recording.family for recording, _ in answered]),
        np.array([recording.source for recording, _ in answered]),
        np.array([_bot_score(reply) for reply in replies]),
        np.array([reply["flagged"] if "flagged" in reply else reply["label"] == "bot" for reply in replies]),
    )
    human, bot, flagged = verdicts.human, ~verdicts.human, verdicts.flagged
    both = human.any() and bot.any()
    return MovementEvaluation(
        model=archive.name,
        version=archive.version,
        recordings=read,
        unreadable=unreadable,
        human_movements=int(human.sum()),
        bot_movements=int(bot.sum()),
        threshold=replies[0]["threshold"],
        auc=metrics.auc(bot, verdicts.score) if both else None,
        eer=metrics.equal_error_rate(bot, verdicts.score) if both else None,
        false_positives=float(flagged[human].mean()) if human.any() else None,
        recall=float(flagged[bot].mean()) if bot.any() else None,
        recall_at_2_percent=metrics.recall_at(bot, verdicts.score, FALSE_POSITIVES) if both else None,
        families={family: _family(verdicts, family) for family in np.unique(verdicts.family[bot]).tolist()},
        sources={
            source: SourceScores(int(of.sum()), float(flagged[of].mean()))
            for source in np.unique(verdicts.source[human]).tolist()
            for of in [human & (verdicts.source == source)]
        },
    )


def _family(verdicts: _Verdicts, family: str) -> FamilyScores:
    of = verdicts.family == family
    beside = of | verdicts.human
    known = verdicts.human.any()
    return FamilyScores(
        movements=int(of.sum()),
        recall=float(verdicts.flagged[of].mean()),
        recall_at_2_percent=metrics.recall_at(of[beside], verdicts.score[beside], FALSE_POSITIVES) if known else None,
        auc=metrics.auc(of[beside], verdicts.score[beside]) if known else None,
    )
