"""`marserve pool build`: a folder of photographs -> a pool that challenges can draw from, judged by the image model."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from handlers import image
from handlers.errors import RequestError, SpecError
from handlers.pipeline import Pipeline
from handlers.pool import INDEX, Pool
from marserve.errors import MarserveError
from marserve.model import load_model
from marserve.photos import TASK, Photo, answers, scan

STORED_SIDE = 256  # pixels of the shorter side; challenges show less
SMALLEST_SIDE = 32
HASH_SIDE = 16
NEAR = 12  # of 256 bits: re-encoded and slightly cropped copies differ by fewer, other pictures by far more
UNREADABLE, SMALL, DUPLICATE = "unreadable", "too small", "duplicate"
DISAGREES, UNSURE, KEPT = "model disagrees with the folder", "low confidence", "kept"


def build_pool(folder: Path, output: Path, archive: Path, min_confidence: float, attribution: str) -> Counter[str]:
    """Write the pool and print how many images went where; returns these counts. Raises MarserveError.

    What is kept is written anew (no metadata, no file names). Nothing is written unless the whole pool is good.
    """
    if output.exists():
        raise MarserveError(f"{output} exists already: remove it or choose another --output")
    parent = output.absolute().parent
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise MarserveError(f"cannot write {output}: {parent} is no folder that you may write to")
    with tempfile.TemporaryDirectory(prefix="marserve-pool-") as scratch:
        pipeline, spec = load_model(archive, Path(scratch, "model"), [TASK])
        photos = scan(folder, spec.labels)
        staging = Path(scratch, "pool")
        staging.mkdir()
        limits = image.Limits(**asdict(spec.limits))
        entries, counts = _select(photos, pipeline, limits, min_confidence, staging)
        index = {"attribution": attribution, "images": entries}
        (staging / INDEX).write_text(json.dumps(index, indent=1) + "\n")
        for fate in (KEPT, UNREADABLE, SMALL, DUPLICATE, DISAGREES, UNSURE):
            print(f"{counts[fate]:8,}  {fate}")
        try:
            pool = Pool(staging)
        except SpecError:
            raise MarserveError("too few images are left for a pool: two groups of two at least") from None
        shutil.copytree(staging, output)
    print(f"{output}: {', '.join(f'{group} {count:,}' for group, count in pool.counts.items())}")
    return counts


def _select(
    photos: list[Photo], pipeline: Pipeline, limits: image.Limits, min_confidence: float, target: Path
) -> tuple[list[dict[str, str]], Counter[str]]:
    """Write the images that pass into `target`; their index entries, and how many met which fate."""
    counts: Counter[str] = Counter()
    entries: list[dict[str, str]] = []
    seen = _SeenHashes(len(photos))
    judged = answers(pipeline, [photo.path for photo in photos], "judging images")
    for photo, (content, answer) in zip(photos, judged, strict=True):
        if isinstance(answer, RequestError):
            fate = UNREADABLE
        elif answer["label"] != photo.label:
            fate = DISAGREES
        elif answer["confidence"] < min_confidence:
            fate = UNSURE
        else:
            fate = _keep(content, photo.label, limits, seen, entries, target)
        counts[fate] += 1
    return entries, counts


def _keep(
    content: bytes,
    group: str,
    limits: image.Limits,
    seen: _SeenHashes,
    entries: list[dict[str, str]],
    target: Path,
) -> str:
    """Write an image that the model agrees with, unless it is too small or there already; its fate."""
    try:
        pixels = image.decode(content, limits, shorter_side=STORED_SIDE)
    except RequestError:  # the model saw it at a smaller scale: at this one it has too many pixels
        return UNREADABLE
    if min(pixels.shape[:2]) < SMALLEST_SIDE:
        return SMALL
    if not seen.add(difference_hash(pixels)):
        return DUPLICATE
    entries.append({"file": _write(pixels, target), "group": group})
    return KEPT


def difference_hash(pixels: image.Pixels) -> NDArray[np.uint8]:
    """(H, W, 3) -> 32 bytes: whether each of 16x16 grey cells is darker than its right neighbour.

    Source: N. Krawetz, Kind of Like That, 2013 (dHash), with 16 cells a side instead of 8.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(cells[:, 1:] > cells[:, :-1])


class _SeenHashes:
    """The hashes so far, in one array that a new one is compared with at once."""

    def __init__(self, most: int) -> None:
        self._hashes = np.empty((most, HASH_SIDE * HASH_SIDE // 8), np.uint8)
        self._count = 0

    def add(self, new: NDArray[np.uint8]) -> bool:
        """False where a near one is there already."""
        distances = np.bitwise_count(self._hashes[: self._count] ^ new).sum(axis=1)
        if distances.size and distances.min() <= NEAR:
            return False
        self._hashes[self._count] = new
        self._count += 1
        return True


def _write(pixels: image.Pixels, target: Path) -> str:
    """Store at most 256 pixels a side under a random name: neither name nor metadata of the source survives."""
    shorter = min(pixels.shape[:2])
    if shorter > STORED_SIDE:
        height, width = (round(extent * STORED_SIDE / shorter) for extent in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    name = f"{secrets.token_hex(8)}.jpg"
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    (target / name).write_bytes(encoded.tobytes())
    return name
