"""Rows of features of people's movements and of bots', and how well a score tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve
from tqdm import tqdm

from handlers.recordings import read_recording
from handlers.trajectory import Trajectory, features
from training.bots import FAMILIES, synthesise
from training.movements import HUMAN, Recording, varied, write_stroke

# How many variations of a movement are added: of strokes there are few, and every device has its own.
VARIATIONS = {"sessions": 1, "strokes": 4}
MOST_BOTS = 800  # of each family in the test
_BLOCK = 512  # movements whose features are computed at once

Scores = NDArray[np.float64]  # (rows,): the higher, the more it looks like a bot


class Entry(NamedTuple):
    movement: Trajectory
    family: str  # HUMAN or a bot's
    source: str  # who made it, or in whose place a bot made it
    in_session: bool  # of a person's session; otherwise a stroke recorded on some device
    original: bool = True  # no variation of another one


@dataclass(frozen=True, slots=True)
class Rows:
    """One row per movement; an `Entry` says what its columns are."""

    features: NDArray[np.float32]  # (rows, features)
    touch: NDArray[np.bool_]  # (rows,), as the others
    family: NDArray[np.str_]
    source: NDArray[np.str_]
    in_session: NDArray[np.bool_]
    original: NDArray[np.bool_]

    @property
    def human(self) -> NDArray[np.bool_]:
        return np.asarray(self.family == HUMAN)

    @property
    def families(self) -> list[str]:
        """The bots'."""
        return sorted(set(self.family.tolist()) - {HUMAN})

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        return Rows(*(getattr(self, name)[chosen] for name in self.__slots__))

    def weights(self) -> Scores:
        """Every family of bots weighs 1, people together as much as all of them; sessions twice as much as strokes."""
        weights = np.zeros(len(self.family))
        for family in self.families:
            weights[self.family == family] = 1 / np.count_nonzero(self.family == family)
        parts = [(self.human & self.in_session, 2.0), (self.human & ~self.in_session, 1.0)]
        present = [(rows, share) for rows, share in parts if rows.any()]
        for rows, share in present:
            weights[rows] = share * max(len(self.families), 1) / sum(s for _, s in present) / np.count_nonzero(rows)
        return np.asarray(weights * len(weights) / weights.sum())


def training_rows(recordings: Sequence[Recording], seed: int, variations: bool = True) -> Rows:
    """People's movements with variations, a bot of every family in place of each, and the bots that were recorded."""
    random = np.random.default_rng(seed)
    kept = [(r, movement) for r in recordings for movement in r.movements]
    entries: list[Entry] = []
    for recording, movement in tqdm(kept, "synthesising", unit="movement", leave=False, disable=None):
        copies = VARIATIONS["sessions" if recording.in_session else "strokes"]
        for index in range(1 + copies if variations else 1):
            one = varied(movement, random) if index else movement
            place = (recording.source, recording.in_session, index == 0)
            entries.append(Entry(one, recording.family, *place))
            if recording.family == HUMAN:
                entries += [Entry(synthesise(family, one, random), family, *place) for family in FAMILIES]
    return rows_of(entries)


def human_rows(recordings: Sequence[Recording]) -> Rows:
    """People's movements alone."""
    people = [recording for recording in recordings if recording.family == HUMAN]
    return rows_of([Entry(movement, HUMAN, one.source, one.in_session) for one in people for movement in one.movements])


def write_test(recordings: Sequence[Recording], folder: Path, seed: int) -> None:
    """The recordings in `human/` and `bot_<family>/`, and a bot of every family in place of each of the people's
    movements, or of MOST_BOTS of them, for `marserve evaluate` and `read_test`."""
    random = np.random.default_rng(seed + 1)
    people = sum(len(recording.movements) for recording in recordings if recording.family == HUMAN)
    replaced = set(random.permutation(people)[:MOST_BOTS].tolist())
    numbers = count()
    for recording in tqdm(recordings, "writing", unit="file", leave=False, disable=None):
        kind = HUMAN if recording.family == HUMAN else f"bot_{recording.family}"
        stem = "_".join(recording.path.with_suffix("").parts[-2:])
        place = folder / kind / recording.source
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{stem}{recording.path.suffix}").write_bytes(recording.path.read_bytes())
        if recording.family != HUMAN:
            continue
        for index, movement in enumerate(recording.movements):
            for family in FAMILIES if next(numbers) in replaced else ():
                bot = synthesise(family, movement, random)
                write_stroke(folder / f"bot_{family}" / recording.source / f"{stem}_{index}.txt", bot)


def read_test(folder: Path, free: bool) -> list[Entry]:
    """What `write_test` wrote."""
    entries = []
    for path in tqdm(sorted(folder.rglob("*.*")), "reading", unit="file", leave=False, disable=None):
        kind, source = path.relative_to(folder).parts[:2]
        place = (kind.removeprefix("bot_"), source, path.suffix == ".csv")
        entries += [Entry(movement, *place) for movement in read_recording(path, free)]
    return entries


def rows_of(entries: Sequence[Entry]) -> Rows:
    movements, *columns = zip(*entries, strict=True)
    blocks = range(0, len(movements), _BLOCK)
    bar = tqdm(blocks, "features", unit="block", leave=False, disable=None)
    computed = np.concatenate([features(movements[start : start + _BLOCK]) for start in bar])
    touch = np.array([movement.pointer == "touch" for movement in movements])
    return Rows(computed, touch, *map(np.array, columns))


def auc(rows: Rows, scores: Scores, family: str | None = None) -> float:
    """Area under the ROC curve of people against one family, or all; 0.5 is chance."""
    chosen = rows.human | (rows.family == family) if family else np.ones(len(scores), bool)
    return float(roc_auc_score(~rows.human[chosen], scores[chosen]))


def equal_error_rate(rows: Rows, scores: Scores) -> float:
    """Where as many people are flagged as bots are missed."""
    flagged, caught, _ = roc_curve(~rows.human, scores)
    missed = 1 - caught
    crossing = int(np.argmax(flagged >= missed))
    before = max(crossing - 1, 0)
    gap_before, gap = missed[before] - flagged[before], flagged[crossing] - missed[crossing]
    share = gap_before / (gap_before + gap) if gap_before + gap > 0 else 0.0
    return float(flagged[before] + share * (flagged[crossing] - flagged[before]))


def table(rows: Rows, scores: Scores, threshold: float) -> dict[str, Any]:
    """The figures of a score; a row is flagged where it is above the threshold."""
    flagged = scores > threshold
    bots = ~rows.human
    return {
        "auc": auc(rows, scores),
        "equal_error_rate": equal_error_rate(rows, scores),
        "people": len(set(rows.source[rows.human].tolist())),
        "movements": int(rows.human.sum()),
        "false_positives": float(flagged[rows.human].mean()),
        "recall": float(flagged[bots].mean()),
        "families": {
            family: {
                "movements": int((rows.family == family).sum()),
                "recall": float(flagged[rows.family == family].mean()),
                "auc": auc(rows, scores, family),
            }
            for family in rows.families
        },
    }


def leave_out(
    train: Rows, test: Rows, fit: Callable[[Rows], Callable[[Rows], Scores]], share: float
) -> Iterator[tuple[str, dict[str, float]]]:
    """Each family of bots and each device of strokes: how a detector does that has never seen it.

    A family gets its AUC; a device the share of its movements flagged, at the threshold that flags `share` of the
    other people of the test.
    """
    for family in test.families:
        score = fit(train.where(train.family != family))
        yield family, {"left_out_auc": auc(test, score(test), family)}
    devices = np.unique(train.source[train.human & ~train.in_session]).tolist()
    for device in devices:
        score = fit(train.where(train.source != device))
        others = test.where(test.human & (test.source != device))
        unseen = train.where((train.source == device) & train.human & train.original)
        threshold = np.quantile(score(others), 1 - share)
        yield device, {"flagged": float((score(unseen) > threshold).mean())}
