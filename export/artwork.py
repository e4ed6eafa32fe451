"""The default pool: OpenMoji's drawings (CC BY-SA 4.0) out of its npm package, rendered.

    npm pack openmoji@17.0.0 && python -m export.artwork openmoji-17.0.0.tgz --output build/pool

The groups are the package's own categories; no classifier chooses among the drawings.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import resvg_py
from tqdm import tqdm

from handlers.pool import INDEX

PACKAGE_SHA256 = "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68"
ATTRIBUTION = (
    "All emojis designed by [OpenMoji](https://openmoji.org) – the open-source emoji and icon project. License: "
    "[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/). From the npm package openmoji 17.0.0, the "
    "categories `animals-nature` (its `animal-*` part) and `objects`, rendered to 192 pixels; the "
    "pool keeps that licence."
)
SIDE = 192  # pixels


def group_of(row: dict[str, str]) -> str | None:
    """The group of one row of the package's table, or None where it belongs to neither."""
    if row["skintone"]:
        return None
    if row["group"] == "animals-nature" and row["subgroups"].startswith("animal-"):
        return "animal"
    return "object" if row["group"] == "objects" else None


def drawings(package: Path) -> Iterator[tuple[str, bytes]]:
    """Group and SVG of every drawing, in the package's own order."""
    with tarfile.open(package) as archive:
        table = _read(archive, "data/openmoji.csv").decode()
        for row in csv.DictReader(io.StringIO(table)):
            if group := group_of(row):
                yield group, _read(archive, f"color/svg/{row['hexcode']}.svg")


def render(svg: bytes) -> bytes:
    """SVG -> WebP of 192x192 pixels on a transparent ground."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg.decode(), width=SIDE, height=SIDE))
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("the renderer gave no PNG")
    _, encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 85])
    return encoded.tobytes()


def write_pool(package: Path, output: Path) -> int:
    """Render all drawings into `output`; how many there are."""
    output.mkdir(parents=True)
    entries = []
    for group, svg in tqdm(list(drawings(package)), unit="drawing", desc="rendering", leave=False, disable=None):
        name = f"{hashlib.sha256(svg).hexdigest()[:16]}.webp"
        (output / name).write_bytes(render(svg))
        entries.append({"file": name, "group": group})
    (output / INDEX).write_text(json.dumps({"attribution": ATTRIBUTION, "images": entries}, indent=1) + "\n")
    return len(entries)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"package/{name}")
    if file is None:
        raise ValueError(f"the package has no {name}")
    return file.read()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m export.artwork", description="Render OpenMoji into a pool.")
    parser.add_argument("package", type=Path, help="openmoji-17.0.0.tgz, from `npm pack openmoji@17.0.0`")
    parser.add_argument("--output", type=Path, default=Path("build/pool"), help="default: %(default)s")
    args = parser.parse_args(argv)
    if args.output.exists():
        sys.exit(f"error: {args.output} exists already")
    try:
        digest = hashlib.sha256(args.package.read_bytes()).hexdigest()
    except OSError as error:
        sys.exit(f"error: cannot read {args.package}: {error.strerror}")
    if digest != PACKAGE_SHA256:
        sys.exit(f"error: {args.package} is not openmoji 17.0.0 as published: its SHA-256 is {digest}")
    print(f"{args.output}: {write_pool(args.package, args.output)} drawings")


if __name__ == "__main__":
    main()
