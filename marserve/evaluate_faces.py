"""`marserve evaluate` of a model that hides faces: how many of the drawn boxes it finds, without a server.

Boxes are read as dlib's imglab writes them (http://dlib.net/ml.html):

    <dataset><images><image file='1.jpg'><box top='90' left='194' width='37' height='37'/></image></images></dataset>
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from handlers.errors import NoFaceError, RequestError
from marserve.archive import Archive
from marserve.errors import DataError
from marserve.evaluate import Problem
from marserve.model import load_model
from marserve.photos import answers

TASK = "face_mosaic"
OVERLAP = 0.3  # intersection over union: a cascade's square and a drawn box hardly ever have the same outline


class Box(NamedTuple):
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Labelled:
    """`ignored` are boxes that imglab marks so: faces that need not be found, and may be."""

    path: Path
    faces: tuple[Box, ...]
    ignored: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageScores:
    """Of one image: the drawn faces, how many of them were found, and what was taken for one beside."""

    faces: int
    found: int
    false_alarms: int


@dataclass(frozen=True, slots=True)
class FaceEvaluation:
    """What `--json` prints, field by field. Unreadable images are left out. Recall and precision are null without faces
    to find, precision also where nothing was taken for one."""

    model: str
    version: str
    images: int
    unreadable: int
    overlap: float  # from which on a box is one of a drawn face, as intersection over union
    faces: int
    found: int
    false_alarms: int
    images_with_false_alarms: int
    recall: float | None  # of the drawn faces, those found
    precision: float | None  # of what was taken for a face, the drawn ones
    by_image: Mapping[str, ImageScores]


def evaluate(archive: Archive, folder: Path) -> tuple[FaceEvaluation, list[Problem]]:
    """Look for the faces of every image that the folder's XML files name; the figures, and what could not be read.

    Raises DataError as `scan` does, or where nothing can be read, and MarserveError for an archive that cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="marserve-evaluate-") as scratch:
        pipeline, _ = load_model(archive.path, Path(scratch, "model"), [TASK])
        images = scan(folder)
        scores: dict[str, ImageScores] = {}
        problems: list[Problem] = []
        answered = answers(pipeline, [image.path for image in images], "evaluating")
        for image, (_, answer) in zip(images, answered, strict=True):
            if isinstance(answer, RequestError) and not isinstance(answer, NoFaceError):
                problems.append((image.path, answer.message))
            else:
                found = [] if isinstance(answer, RequestError) else [Box(*box) for box in answer["faces"]]
                scores[str(image.path.relative_to(folder))] = _score(image, found)
    if not scores:
        path, message = problems[0]
        raise DataError(f"none of the {len(problems):,} images in {folder} can be read; {path}: {message}")
    faces, found_faces = (sum(getattr(one, name) for one in scores.values()) for name in ("faces", "found"))
    false_alarms = sum(one.false_alarms for one in scores.values())
    evaluation = FaceEvaluation(
        model=archive.name,
        version=archive.version,
        images=len(scores),
        unreadable=len(problems),
        overlap=OVERLAP,
        faces=faces,
        found=found_faces,
        false_alarms=false_alarms,
        images_with_false_alarms=sum(one.false_alarms > 0 for one in scores.values()),
        recall=found_faces / faces if faces else None,
        precision=found_faces / (found_faces + false_alarms) if faces and found_faces + false_alarms else None,
        by_image=scores,
    )
    return evaluation, problems


def scan(folder: Path) -> list[Labelled]:
    """The images that the XML files in `folder` name, in order; their names are relative to it.

    Raises DataError for no such file, one that is none of boxes, an image named twice, or one outside of the folder.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".xml" and path.is_file())
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None
    if not files:
        raise DataError(f"{folder} has no *.xml with the boxes of faces, as dlib's imglab writes them")
    images: dict[Path, Labelled] = {}
    for file in files:
        for image in _read(file):
            if image.path in images:
                raise DataError(f"{file}: {image.path.name} is named twice")
            images[image.path] = image
    if not images:
        raise DataError(f"{files[0]} names no image: expected <dataset><images><image file='...'>")
    return list(images.values())


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0 to 1."""
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one.width * one.height + other.width * other.height - shared)


def _score(image: Labelled, found: Sequence[Box]) -> ImageScores:
    """Each box for one face at most, the closest pairs first."""
    pairs = ((overlap(face, box), f, b) for f, face in enumerate(image.faces) for b, box in enumerate(found))
    faces, boxes = set(), set()
    for close, face, box in sorted(pairs, reverse=True):
        if close >= OVERLAP and face not in faces and box not in boxes:
            faces.add(face)
            boxes.add(box)
    others = [box for number, box in enumerate(found) if number not in boxes]
    alarms = [box for box in others if all(overlap(box, ignored) < OVERLAP for ignored in image.ignored)]
    return ImageScores(len(image.faces), len(faces), len(alarms))


def _read(file: Path) -> list[Labelled]:
    try:
        # Of an entity that would grow without end the parser itself says so (expat from 2.4.1 on).
        root = ElementTree.parse(file).getroot()  # noqa: S314
        return [_labelled(file.parent, element) for element in root.iter("image")]
    except (OSError, ElementTree.ParseError, ValueError, KeyError) as error:
        raise DataError(f"{file} is no file of boxes: {error}") from None


def _labelled(folder: Path, element: ElementTree.Element) -> Labelled:
    name = element.get("file", "")
    path = folder / name
    if not name or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"an image named {name!r}, which is not below the file")
    boxes: tuple[list[Box], list[Box]] = ([], [])
    for box in element.iter("box"):
        read = Box(*(float(box.attrib[side]) for side in ("left", "top", "width", "height")))
        if not (read.width > 0 and read.height > 0):
            raise ValueError(f"a box of {name} without width or height")
        boxes[box.get("ignore") == "1"].append(read)
    return Labelled(path, *map(tuple, boxes))
