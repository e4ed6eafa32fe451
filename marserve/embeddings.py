"""Images -> the vectors of an archive's embedding, in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlers.errors import RequestError
from marserve.errors import DataError
from marserve.evaluate import Problem
from marserve.model import load_model
from marserve.photos import EMBEDDING, answers

Vectors = NDArray[np.float32]  # (N, dim), each of length 1


@dataclass(frozen=True, slots=True)
class Embedded:
    """The images that could be read with a row of `vectors` each, and those that could not."""

    paths: list[Path]
    vectors: Vectors
    problems: list[Problem]


def embed(archive: Path, paths: Sequence[Path], what: str) -> Embedded:
    """In order; a terminal shows a bar, named `what`, meanwhile. Raises MarserveError, also where none can be read."""
    read: list[Path] = []
    vectors: list[Vectors] = []
    problems: list[Problem] = []
    with tempfile.TemporaryDirectory(prefix="marserve-embed-") as scratch:
        pipeline, _ = load_model(archive, Path(scratch, "model"), [EMBEDDING])
        for path, (_, answer) in zip(paths, answers(pipeline, paths, what), strict=True):
            if isinstance(answer, RequestError):
                problems.append((path, answer.message))
            else:
                read.append(path)
                vectors.append(answer["embedding"])
    if not read:
        path, message = problems[0]
        more = f", nor any of {len(problems) - 1:,} more" if len(problems) > 1 else ""
        raise DataError(f"{path} cannot be read: {message}{more}")
    return Embedded(read, np.stack(vectors), problems)
