"""`python -m export.samples FOLDER --output FILE`: labelled images, as many of every label, in one file that an archive
can carry (handlers/samples.py reads it). In an order that the seed decides."""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from export.errors import ExportError
from training.captcha_dataset import scan
from training.cli import DataError


def choose(folder: Path, per_label: int, seed: int) -> list[dict[str, str]]:
    """Raises ExportError where a label has too few PNG images."""
    try:
        photos = [photo for photo in scan(folder) if photo.path.suffix.lower() == ".png"]
    except DataError as error:
        raise ExportError(str(error)) from None
    generator = random.Random(seed)  # noqa: S311 (no secret)
    chosen = []
    for label in sorted({photo.group for photo in photos}):
        of_label = [photo for photo in photos if photo.group == label]
        if len(of_label) < per_label:
            raise ExportError(f"{folder} has {len(of_label)} PNG images of {label!r}; {per_label} are wanted")
        chosen += generator.sample(of_label, per_label)
    generator.shuffle(chosen)
    return [{"label": photo.group, "data": base64.b64encode(photo.path.read_bytes()).decode()} for photo in chosen]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m export.samples", description="Labelled images in one file.")
    parser.add_argument("folder", type=Path, help="<label>/*.png or <label>/<class>/*.png")
    parser.add_argument("--output", type=Path, required=True, help="as in export/specs/digit_samples.json")
    parser.add_argument("--attribution", required=True, help="whose images they are, and their licence")
    parser.add_argument("--per_label", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        samples = choose(args.folder, args.per_label, args.seed)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    # One sample in a line.
    lines = ",\n".join(json.dumps(sample) for sample in samples)
    args.output.write_text(f'{{"attribution": {json.dumps(args.attribution)},\n"samples": [\n{lines}\n]}}\n')
    print(f"{args.output}: {len(samples)} images, {args.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
