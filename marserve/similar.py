"""`marserve index` and `marserve similar`: which images of a folder look most like another one, without a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from marserve import image_index
from marserve.archive import read_archive
from marserve.contact_sheet import Tile, draw
from marserve.embeddings import embed
from marserve.errors import MarserveError
from marserve.evaluate import Problem
from marserve.image_index import Image, ImageIndex
from marserve.photos import below
from marserve.terminal import plain

# Beside the similarity: the very same file; one that is not where it was indexed, or not the one that was.
State = Literal["", "identical", "missing", "changed"]


@dataclass(frozen=True, slots=True)
class Neighbour:
    path: Path
    similarity: float  # cosine, at most 1
    state: State


@dataclass(frozen=True, slots=True)
class Found:
    """An image, and those of the index that are nearest to it."""

    file: Path
    index: ImageIndex
    neighbours: list[Neighbour]


def build(folder: Path, output: Path, archive: Path) -> tuple[int, list[Problem]]:
    """Index all images below a folder; how many there are in the index, and what cannot be read.

    Raises MarserveError before the work begins where the result could not be written.
    """
    image_index.faiss()
    root = folder.resolve()
    image_index.check_target(output, root)
    model = image_index.model_of(read_archive(archive))
    found = embed(archive, below(folder), "indexing")
    images = [Image(path.relative_to(folder).as_posix(), path.stat().st_size) for path in found.paths]
    image_index.write(output, model, root, images, found.vectors)
    return len(images), found.problems


def find(file: Path, place: Path, archive: Path, count: int) -> Found:
    """At most `count` neighbours, the nearest first. Raises MarserveError, also for an index of another network."""
    index = image_index.read(place)
    model = image_index.model_of(read_archive(archive))
    if model.network_sha256 != index.model.network_sha256:
        made, asked = (f"{m.name} {m.version} ({m.network_sha256[:12]})" for m in (index.model, model))
        raise MarserveError(
            f"{place} was made with the network of {made}, {archive} has that of {asked}: index the folder again, or "
            "name the other archive with --archive"
        )
    vector = embed(archive, [file], "").vectors[0]
    content = file.read_bytes()
    nearest = index.nearest(vector, count)
    neighbours = [_neighbour(index.folder, image, similarity, content) for image, similarity in nearest]
    return Found(file, index, neighbours)


def draw_sheet(found: Found, target: Path) -> None:
    """The image itself, then its neighbours. Raises MarserveError where that cannot be written."""
    tiles = [Tile(found.file, "looked for", plain(found.file.name), framed=True)]
    for rank, neighbour in enumerate(found.neighbours, 1):
        gone = neighbour.state if neighbour.state in ("missing", "changed") else ""
        same = "  identical" if neighbour.state == "identical" else ""
        name = plain(neighbour.path.relative_to(found.index.folder))
        tiles.append(Tile(neighbour.path, f"{rank}  {neighbour.similarity:.4f}{same}", name, gone))
    draw(tiles, target)


def _neighbour(folder: Path, image: Image, similarity: float, content: bytes) -> Neighbour:
    path = folder / image.file
    state: State = ""
    try:
        size = path.stat().st_size
        if size != image.bytes:
            state = "changed"
        elif size == len(content) and path.read_bytes() == content:
            state = "identical"
    except OSError:
        state = "missing"
    return Neighbour(path, similarity, state)
