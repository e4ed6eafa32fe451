"""The folder that `marserve index` writes: vectors of images for FAISS, and which images and network they are of.

images.index/vectors.faiss   an exact index (IndexFlatIP): of vectors of length 1 the product is the cosine similarity
images.index/images.json     {"model": {...}, "folder": "/photos", "images": [{"file": "a/1.jpg", "bytes": 3012}, ...]}
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from handlers.archive import DIGESTS
from marserve.archive import Archive
from marserve.embeddings import Vectors
from marserve.errors import MarserveError

VECTORS, IMAGES = "vectors.faiss", "images.json"


@dataclass(frozen=True, slots=True)
class Model:
    """Of whom the vectors are: those of another network cannot be compared with them."""

    name: str
    version: str
    network_sha256: str


class Image(NamedTuple):
    file: str  # below the folder
    bytes: int


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """`vectors` is a FAISS index with a row per image, in their order."""

    model: Model
    folder: Path
    images: list[Image]
    vectors: Any

    def nearest(self, vector: Vectors, count: int) -> list[tuple[Image, float]]:
        """(dim,) of length 1 -> at most `count` images and their cosine similarity, the most similar first."""
        similarity, numbers = self.vectors.search(vector[None], min(count, len(self.images)))
        return [(self.images[n], min(1.0, float(s))) for n, s in zip(numbers[0], similarity[0], strict=True)]


def model_of(archive: Archive) -> Model:
    """Raises MarserveError for an archive that marserve did not make, or one without a network."""
    network = archive.handler.get("network") or {}
    digest = json.loads(archive.read(DIGESTS)).get(network.get("file")) if network else None
    if digest is None:
        raise MarserveError(f"{archive.path} has no network whose vectors could be compared")
    return Model(archive.name, archive.version, digest)


def faiss() -> Any:
    """The library, which no server needs. Raises MarserveError where it is not installed."""
    try:
        import faiss as library
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        raise MarserveError(
            f"this takes FAISS, which is not installed: {sys.executable} -m pip install faiss-cpu"
        ) from None
    return library


def check_target(target: Path, folder: Path) -> None:
    """Raises MarserveError where `write` could not, or where what it replaces is no index of the same folder."""
    if target.exists():
        there = _read_json(target)["folder"] if (target / IMAGES).is_file() else None
        if there != str(folder):
            what = f"the index of {there}" if there else "no index"
            raise MarserveError(f"{target} exists already and is {what}: remove it or choose another --output")
    parent = target.absolute().parent
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise MarserveError(f"cannot write {target}: {parent} is no folder that you may write to")


def write(target: Path, model: Model, folder: Path, images: list[Image], vectors: Vectors) -> None:
    """All of it or nothing; an index that was there is replaced. Raises MarserveError."""
    index = faiss().IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    text = {"model": asdict(model), "folder": str(folder), "images": [image._asdict() for image in images]}
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.absolute().parent) as scratch:
            staging = Path(scratch, "index")
            staging.mkdir()
            faiss().write_index(index, str(staging / VECTORS))
            (staging / IMAGES).write_text(json.dumps(text, indent=1) + "\n")  # ASCII: names may be no Unicode
            if target.exists():
                shutil.move(target, Path(scratch, "before"))
            staging.rename(target)
    except (OSError, RuntimeError) as error:  # faiss raises the latter for whatever befalls it
        raise MarserveError(f"cannot write {target}: {error}") from None


def read(target: Path) -> ImageIndex:
    """Raises MarserveError for what is missing or damaged."""
    if not (target / IMAGES).is_file():
        raise MarserveError(
            f"{target} is no index: make one with `marserve index FOLDER`, or name another with --index"
        )
    text = _read_json(target)
    try:
        vectors = faiss().read_index(str(target / VECTORS))
    except RuntimeError:
        raise MarserveError(f"{target / VECTORS} is missing or damaged: index the folder again") from None
    images = [Image(**image) for image in text["images"]]
    if vectors.ntotal != len(images) or not images:
        raise MarserveError(
            f"{target} is damaged: {len(images):,} images and {vectors.ntotal:,} vectors; index the folder again"
        )
    return ImageIndex(Model(**text["model"]), Path(text["folder"]), images, vectors)


def _read_json(target: Path) -> Mapping[str, Any]:
    """Checked as far as it is read."""
    try:
        text: Mapping[str, Any] = json.loads((target / IMAGES).read_bytes())
        Model(**text["model"])
        whole = isinstance(text["folder"], str) and all(
            type(image["file"]) is str and type(image["bytes"]) is int and len(image) == 2 for image in text["images"]
        )
    except (OSError, ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        raise MarserveError(f"{target / IMAGES} is damaged: remove {target} and index the folder again")
    return text
