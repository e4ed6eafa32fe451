"""Photographs in folders, and what an archive's image model answers to them here, without a server."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from handlers.errors import InternalError, RequestError, UndecodableError
from handlers.image import SUFFIXES
from handlers.pipeline import Pipeline
from handlers.reply import Answer
from marserve.errors import DataError, MarserveError

TASK, EMBEDDING = "image_classification", "image_embedding"
# Tasks whose replies say which of the labels an image has.
CLASSIFIERS = (TASK, "digit_recognition", "ensemble_classification", "yes_no")
_NUMBERS = {"confidence", "embedding"}  # of an answer: what must be finite
BATCH = 8  # images that one thread takes at a time: whole files, which may have many megabytes


@dataclass(frozen=True, slots=True)
class Photo:
    path: Path
    label: str
    class_name: str  # "" where it lies in the label's own folder


def scan(folder: Path, labels: Sequence[str] | None = None) -> list[Photo]:
    """All images in `<label>/<class>/` or `<label>/`, sorted. Hidden files and folders are none.

    Raises DataError for no images, a folder that is none of `labels`, if given, or a label with both layouts.
    """
    try:
        places = _folders(folder)
        if labels and (strangers := [place.name for place in places if place.name not in labels]):
            known = ", ".join(labels)
            raise DataError(f"{folder / strangers[0]}: the model knows the groups {known}, not {', '.join(strangers)}")
        photos = [photo for place in places for photo in _of_label(place)]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None
    if not photos:
        raise DataError(f"{folder} has no images in <group>/<class>/*.jpg|png|webp or <group>/*.jpg|png|webp")
    return photos


def probabilities(reply: Mapping[str, Any], labels: Sequence[str]) -> list[float]:
    """Of every label in turn. Where a reply names only the likeliest, the others share evenly what is left."""
    if "top" not in reply:
        return [reply["probabilities"][label] for label in labels]
    named = {entry["label"]: entry["probability"] for entry in reply["top"]}
    left = max(0.0, 1 - sum(named.values())) / max(1, len(labels) - len(named))
    return [named.get(label, left) for label in labels]


def predicted(reply: Mapping[str, Any]) -> str:
    """The most probable label."""
    if "top" in reply:
        return str(reply["top"][0]["label"])
    all_of_them: Mapping[str, float] = reply["probabilities"]
    return max(all_of_them, key=all_of_them.__getitem__)


def below(folder: Path) -> list[Path]:
    """All images in a folder and in those below it, sorted. Hidden files and folders are none. Raises DataError."""

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot read {error.filename}: {error.strerror}")

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    images = sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())
    if not images:
        raise DataError(f"{folder} has no images, in folders of any depth: {', '.join(sorted(SUFFIXES))}")
    return images


def answers(pipeline: Pipeline, paths: Sequence[Path], what: str) -> Iterable[tuple[bytes, Answer]]:
    """Every file's bytes and the model's answer, in order; a terminal shows a bar, named `what`, meanwhile.

    What cannot be read or decoded is answered by a RequestError. Raises MarserveError where the model itself fails.
    """
    hidden = not sys.stderr.isatty()
    found = _answers(pipeline, paths)
    return track(found, what, len(paths), console=Console(stderr=True), transient=True, disable=hidden)


def _answers(pipeline: Pipeline, paths: Sequence[Path]) -> Iterator[tuple[bytes, Answer]]:
    """Decoding and the network leave Python's lock, so threads keep all cores busy; only a few files wait at once."""
    threads = max(1, len(os.sched_getaffinity(0)) // (pipeline.network.spec.threads if pipeline.network else 1))
    waiting: deque[Future[list[tuple[bytes, Answer]]]] = deque()
    with ThreadPoolExecutor(threads) as executor:
        for start in range(0, len(paths), BATCH):
            waiting.append(executor.submit(_answer, pipeline, paths[start : start + BATCH]))
            if len(waiting) > threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _answer(pipeline: Pipeline, paths: Sequence[Path]) -> list[tuple[bytes, Answer]]:
    contents = [_read(path) for path in paths]
    replies = pipeline.answer(contents)
    for path, reply in zip(paths, replies, strict=True):
        if isinstance(reply, InternalError):
            raise MarserveError(f"the model fails on {path}; see the log above")
        if isinstance(reply, dict) and not all(np.isfinite(reply[name]).all() for name in _NUMBERS & reply.keys()):
            raise MarserveError(f"the model fails on {path}: it puts out no numbers")  # a server answers with an error
    files = (content if isinstance(content, bytes) else b"" for content in contents)
    return list(zip(files, replies, strict=True))


def _read(path: Path) -> bytes | RequestError:
    try:
        return path.read_bytes()
    except OSError as error:
        return UndecodableError(str(error.strerror))


def _of_label(folder: Path) -> list[Photo]:
    """The images of one label, in one of the two layouts."""
    direct = [Photo(path, folder.name, "") for path in _images(folder)]
    nested = [Photo(path, folder.name, inner.name) for inner in _folders(folder) for path in _images(inner)]
    if direct and nested:
        raise DataError(f"{folder} holds images itself and in {nested[0].path.parent}: move them all to one level")
    return direct or nested


def _images(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
