"""`marserve index` and `marserve similar`: flags in, what was found out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marserve.terminal import plain

if TYPE_CHECKING:
    from marserve.similar import Found

DEFAULT_INDEX = Path("images.index")
DEFAULT_SHEET = Path("similar.png")
ArchiveOption = Annotated[Path, typer.Option(help="The model that makes vectors of images.")]
DEFAULT_ARCHIVE = Path("model_store/image_embedding.mar")


def index(
    folder: Annotated[Path, typer.Argument(help="Images, in folders of any depth.")],
    output: Annotated[
        Path, typer.Option(help="The folder to write; an older index of the same images is replaced.")
    ] = DEFAULT_INDEX,
    archive: ArchiveOption = DEFAULT_ARCHIVE,
) -> None:
    """Make an index of a folder's images, for `marserve similar`; without a server."""
    from marserve.report import print_problems
    from marserve.similar import build

    count, problems = build(folder, output, archive)
    print_problems(problems)
    unreadable = f", {len(problems):,} unreadable" if problems else ""
    print(f"{plain(output)}: {count:,} images{unreadable}")


def similar(
    file: Annotated[Path, typer.Argument(help="An image.", exists=True, dir_okay=False)],
    index: Annotated[Path, typer.Option(help="What `marserve index` has written.")] = DEFAULT_INDEX,
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=1000, help="How many to find.")] = 10,
    sheet: Annotated[
        Path | None,
        typer.Option(help="The picture to draw: .png, .jpg, .webp.  [default: similar.png; none with --json]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    archive: ArchiveOption = DEFAULT_ARCHIVE,
) -> None:
    """Find the images of an index that look most like another one, and draw them in one picture; without a server."""
    from marserve.similar import draw_sheet, find

    found = find(file, index, archive, k)
    target = sheet or (None if as_json else DEFAULT_SHEET)
    if target:
        draw_sheet(found, target)
    if as_json:
        print(json.dumps(_for_programs(found, target)))
        return
    for neighbour in found.neighbours:  # no table: it would cut long paths
        note = f"  ({neighbour.state})" if neighbour.state else ""
        print(f"{neighbour.similarity:.4f}  {plain(neighbour.path)}{note}")
    if len(found.neighbours) < k:
        print(f"the index has {len(found.neighbours):,} images only", file=sys.stderr)
    print(f"drawn in {plain(target)}")


def _for_programs(found: Found, sheet: Path | None) -> dict[str, object]:
    model = found.index.model
    return {
        "file": str(found.file),
        "model": model.name,
        "version": model.version,
        "images": len(found.index.images),
        "neighbours": [
            {"file": str(n.path), "similarity": round(n.similarity, 6), "state": n.state or "as indexed"}
            for n in found.neighbours
        ],
        "sheet": str(sheet) if sheet else None,
    }
