"""Set photographs apart before any training, so that what is reported about a model is about what it never saw.

    python training/hold_out.py --data_dir images --output_dir data

makes `data/unseen_classes` (some classes of every group, whole), `data/test` (a share of every other class) and
`data/train` (the rest), each in the two-level layout. The files are hard links where the file system allows, so they
take no space; `images` stays as it is.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.captcha_dataset import Photo, classes_of, scan
from training.cli import DataError, run_script
from training.files import write_new
from training.splits import split


def hold_out(photos: Sequence[Photo], share: float, classes: int, seed: int) -> dict[str, list[Photo]]:
    """The parts by their folders' names. Raises DataError where too little is left to train on."""
    members = classes_of(photos)
    for group, names in members.items():
        if len(names) <= classes:
            raise DataError(f"{group} has {len(names)} class(es): to hold out {classes}, at least one more is needed")
    generator = random.Random(seed)  # noqa: S311 (no secret)
    unseen = {(group, name) for group, names in members.items() for name in generator.sample(names, classes)}
    known = [photo for photo in photos if (photo.group, photo.class_name) not in unseen]
    train, test = split(known, share, seed)
    parts = {"train": train, "test": test}
    if unseen:
        parts["unseen_classes"] = [photo for photo in photos if (photo.group, photo.class_name) in unseen]
    return parts


def write(parts: Mapping[str, Sequence[Photo]], output_dir: Path) -> None:
    """All parts or nothing: `output_dir` appears when everything is in it. Raises DataError."""
    places = {
        f"{part}/{photo.group}/{photo.class_name}/{photo.path.name}": photo.path
        for part, photos in parts.items()
        for photo in photos
    }
    write_new(places, output_dir)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Set test photographs and whole classes apart, before any training.")
    parser.add_argument("--data_dir", type=Path, default=Path("images"), help="default: %(default)s")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="must not exist (default: %(default)s)")
    parser.add_argument("--share", type=float, default=0.1, help="of every class, into test (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=0, help="of every group, into unseen_classes (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args(argv)
    if not 0 < args.share < 1:
        raise DataError("--share must lie between 0 and 1")
    if args.classes < 0:
        raise DataError("--classes must not be negative")
    parts = hold_out(scan(args.data_dir), args.share, args.classes, args.seed)
    write(parts, args.output_dir)
    for part, photos in parts.items():
        classes = {(photo.group, photo.class_name) for photo in photos}
        print(f"{args.output_dir / part}: {len(photos):,} images in {len(classes)} classes")


if __name__ == "__main__":
    run_script(main)
