"""What an archive's self-test asks, and the answers that its own pipeline gives before it is packed.

A case is worth little where any model gives the same answer, and does harm where the next CPU's last digits make it
another one. So of many candidates those are taken that come nearest to reading otherwise, but for a wide berth.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from export.errors import ExportError
from export.image_classifier import cuts
from handlers import points
from handlers.answers import mismatch
from handlers.archive import SELFTEST
from handlers.errors import SpecError
from handlers.pipeline import Pipeline
from handlers.samples import read_samples
from handlers.selftest import ask
from handlers.spec import HandlerSpec
from handlers.trajectory import POINTERS
from training import bots

FOLDER = "selftest"  # inside the archive
MOST = 4  # cases: every worker asks them when it starts
BERTH = 2  # how many tolerances an answer stays away from reading otherwise
_DIGITS = 4
_MOVEMENTS_OF_FAMILY = 5

Answer = Mapping[str, Any]
Case = dict[str, Any]  # as selftest.json has it


@dataclass(frozen=True, slots=True)
class Kind:
    """How a task is tested."""

    # Between CPUs, and between a CPU and a GPU, a number may differ by this.
    tolerance: float
    # Files that are asked beside the example, by name, made of it or of the other file.
    variants: Callable[[Path, Path], Iterator[tuple[str, bytes]]]
    # How far each number of an answer may move before the answer reads otherwise, and what it reads now.
    margin: Callable[[Answer, HandlerSpec], float]
    reading: Callable[[Answer], object]


def staged(spec: HandlerSpec, files: Mapping[str, Path], folder: Path) -> Pipeline:
    """The model that an archive of `files` (place inside -> file or folder) will hold, laid out in `folder`, on one
    thread of the CPU. Raises ExportError."""
    folder.mkdir()
    for place, source in files.items():
        (folder / place).symlink_to(source.resolve())
    network = replace(spec.network, provider="cpu", threads=1) if spec.network else None
    try:
        return Pipeline.load(folder, replace(spec, network=network), pool=folder / spec.pool if spec.pool else None)
    except SpecError as error:
        raise ExportError(f"the archive would not load: {error}") from error


def record(spec: HandlerSpec, pipeline: Pipeline, model: Path, folder: Path) -> dict[str, Path]:
    """The files to add to the archive, written below `folder`; `model` is the folder that `pipeline` was loaded from.

    None where no answer keeps its distance from another one, as those of an untrained network, and for tasks that
    nothing here is known of. Raises ExportError.
    """
    try:
        cases = _form(spec, pipeline) if pipeline.form is not None else _answers(spec, pipeline, model, folder)
    except SpecError as error:
        raise ExportError(f"no self-test can be recorded: {error}") from error
    if not cases:
        return {}
    tolerance = 0.0 if pipeline.form is not None else KINDS[spec.task].tolerance
    text = json.dumps({"tolerance": tolerance, "cases": cases}, indent=1, ensure_ascii=False)
    (folder / SELFTEST).write_text(text + "\n")
    made = {SELFTEST: folder / SELFTEST}
    return made | ({FOLDER: folder / FOLDER} if (folder / FOLDER).is_dir() else {})


def _form(spec: HandlerSpec, pipeline: Pipeline) -> list[Case]:
    """Of a model that draws lots: the form of the answer to its example."""
    request = spec.example.get("json")
    if request is None:
        return []
    if wrong := mismatch(pipeline.form, ask(pipeline, json.dumps(request).encode())):
        raise ExportError(f"the answer to the example is not of the task's own form: it has {wrong}")
    return [{"json": request, "form": pipeline.form}]


def _answers(spec: HandlerSpec, pipeline: Pipeline, model: Path, folder: Path) -> list[Case]:
    kind, example = KINDS.get(spec.task), spec.example.get("file")
    if kind is None:
        return []
    if example is None:
        request = spec.example.get("json")
        answer = rounded(ask(pipeline, json.dumps(request).encode())) if request else None
        firm = answer and kind.margin(answer, spec) >= BERTH * kind.tolerance
        return [{"json": request, "answer": answer}] if firm else []
    bodies = {example: (model / example).read_bytes()}
    bodies |= {f"{FOLDER}/{name}": body for name, body in kind.variants(model / example, model / spec.samples)}
    asked = [{"file": name, "answer": rounded(ask(pipeline, body))} for name, body in bodies.items()]
    margins = {case["file"]: kind.margin(case["answer"], spec) for case in asked}
    firm = [case for case in asked if margins[case["file"]] >= BERTH * kind.tolerance]
    cases = _chosen(sorted(firm, key=lambda case: (case["file"] != example, margins[case["file"]])), kind)
    for name in [case["file"] for case in cases if case["file"] != example]:
        (folder / FOLDER).mkdir(exist_ok=True)
        (folder / name).write_bytes(bodies[name])
    return cases


def _chosen(cases: list[Case], kind: Kind) -> list[Case]:
    """The first of every reading in turn."""
    readings: dict[object, list[Case]] = {}
    for case in cases:
        readings.setdefault(kind.reading(case["answer"]), []).append(case)
    in_turn = chain.from_iterable(zip_longest(*readings.values()))
    return [case for case in in_turn if case is not None][:MOST]


def rounded(answer: Any) -> Any:
    """Last digits are the machine's: without them another one records the same."""
    if isinstance(answer, dict):
        return {name: rounded(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [rounded(value) for value in answer]
    return round(answer, _DIGITS) if isinstance(answer, float) else answer


def _photographs(example: Path, samples: Path) -> Iterator[tuple[str, bytes]]:  # noqa: ARG001
    for number, (_, pixels) in enumerate(cuts(example)):
        encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        yield f"{number}.jpg", encoded.tobytes()


def _samples(example: Path, samples: Path) -> Iterator[tuple[str, bytes]]:  # noqa: ARG001
    if samples.is_file():
        for number, sample in enumerate(read_samples(samples), start=1):
            yield f"{number}.png", sample.data


def _boxes(example: Path, samples: Path) -> Iterator[tuple[str, bytes]]:  # noqa: ARG001
    """The example again, for its boxes alone: another CPU may encode the hidden picture to other bytes."""
    yield "boxes.json", json.dumps({"data": base64.b64encode(example.read_bytes()).decode(), "image": False}).encode()


def _movements(example: Path, samples: Path) -> Iterator[tuple[str, bytes]]:  # noqa: ARG001
    """What programs make of the example's way."""
    person = points.read(json.loads(example.read_bytes()))
    random = np.random.default_rng(0)
    for family in bots.FAMILIES:
        for number in range(_MOVEMENTS_OF_FAMILY):
            pointer = POINTERS[number % len(POINTERS)]
            made = bots.synthesise(family, replace(person, pointer=pointer), random)
            axes = {axis: getattr(made, axis).round(2).tolist() for axis in points.AXES}
            yield f"{family}_{number}.json", json.dumps({**axes, "pointer": made.pointer}).encode()


def _lead(answer: Answer, spec: HandlerSpec) -> float:  # noqa: ARG001
    """Half of what the best label is ahead by: both may move."""
    second, best = sorted(answer["probabilities"].values())[-2:]
    return float(best - second) / 2


def _unanimous_lead(answer: Answer, spec: HandlerSpec) -> float:  # noqa: ARG001
    """Likewise, of an ensemble whose networks agree: of another, one network's own lead may be nothing."""
    first, second = (entry["probability"] for entry in answer["top"][:2])
    return float(first - second) / 2 if answer["agreement"] == 1 else 0.0


def _lead_and_threshold(answer: Answer, spec: HandlerSpec) -> float:
    """Of a question: what is valid may change as well."""
    threshold = spec.question and spec.question.confidence_threshold
    lead = _lead(answer, spec)
    return lead if threshold is None else min(lead, float(abs(answer["confidence"] - threshold)))


def _from_threshold(score: str) -> Callable[[Answer, HandlerSpec], float]:
    return lambda answer, _: float(abs(answer[score] - answer["threshold"]))


KINDS: Mapping[str, Kind] = {
    # Twice what float16 may differ from float32 by at its gate; TF32 on a GPU has as many digits.
    "image_classification": Kind(0.02, _photographs, _lead, lambda answer: answer["label"]),
    "ensemble_classification": Kind(0.02, _photographs, _unanimous_lead, lambda answer: answer["label"]),
    "digit_recognition": Kind(0.02, _samples, _lead, lambda answer: answer["digit"]),
    "yes_no": Kind(0.02, _photographs, _lead_and_threshold, lambda answer: answer["message"]),
    "tabular_classification": Kind(0.02, lambda *_: iter(()), _lead, lambda answer: answer["label"]),
    # Four of 80 trees. Features at a tree's limit may fall on its other side where sums are in another order.
    "trajectory_classification": Kind(0.05, _movements, _from_threshold("score"), lambda answer: answer["label"]),
    # A percentile: a tree of 200 moves it by less than a hundredth.
    "trajectory_anomaly": Kind(0.01, _movements, _from_threshold("anomaly"), lambda answer: answer["flagged"]),
    # Pixels of a box, whose sides come in steps of a tenth. Boxes alone: no answer with a picture in it is recorded.
    "face_mosaic": Kind(
        4, _boxes, lambda answer, _: 0 if "image" in answer else math.inf, lambda answer: len(answer["faces"])
    ),
    # Of a vector no number decides anything, and among as many another network's are off by several times this.
    "image_embedding": Kind(0.01, _photographs, lambda *_: math.inf, lambda answer: answer["dim"]),
}
