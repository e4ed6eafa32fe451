"""Cut a long tail out of a folder of images, to try what helps against it: few classes with most of the images.

    python training/long_tail.py --data_dir images --output_dir tail

makes `tail/test` (as many images of every class, which no training sees) and `tail/train`, where the counts fall evenly
on a logarithmic scale, from all that the first class has down to `--least`. Classes become labels: `<class>/*`. The
files are hard links where the file system allows.

Source of the profile: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from training.captcha_dataset import Photo, by_class, scan
from training.cli import DataError, run_script
from training.files import write_new


def counts(classes: int, most: int, least: int) -> list[int]:
    """Images of each class, falling by the same factor from one to the next; `classes` is at least 2."""
    return [round(most * (least / most) ** (index / (classes - 1))) for index in range(classes)]


def cut(photos: Sequence[Photo], classes: int, least: int, test: int, seed: int) -> dict[str, list[Photo]]:
    """The parts by their folders' names. The seed decides which classes, in what order, and which images.

    Raises DataError where there are too few classes or images.
    """
    of_class = by_class(photos)
    generator = random.Random(seed)  # noqa: S311 (no secret)
    if len(of_class) < classes:
        raise DataError(f"there are {len(of_class)} classes: --classes {classes} are too many")
    chosen = generator.sample(sorted(of_class), classes)
    if len({name for _, name in chosen}) < classes:
        raise DataError("two of the classes have one name; rename one, or choose another --seed")
    most = min(len(of_class[name]) for name in chosen) - test
    if most < least:
        raise DataError(f"the smallest class has {most + test} images: too few for --test {test} and --least {least}")
    parts: dict[str, list[Photo]] = {"train": [], "test": []}
    for name, count in zip(chosen, counts(classes, most, least), strict=True):
        shuffled = generator.sample(of_class[name], len(of_class[name]))
        parts["test"] += shuffled[:test]
        parts["train"] += shuffled[test : test + count]
    return parts


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Cut a long tail out of a folder of images.")
    parser.add_argument("--data_dir", type=Path, default=Path("images"), help="default: %(default)s")
    parser.add_argument("--output_dir", type=Path, default=Path("tail"), help="must not exist (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=19, help="default: %(default)s")
    parser.add_argument("--least", type=int, default=3, help="images of the rarest class (default: %(default)s)")
    parser.add_argument("--test", type=int, default=100, help="images of every class (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args(argv)
    for name, low in (("classes", 2), ("least", 2), ("test", 1)):
        if getattr(args, name) < low:
            raise DataError(f"--{name} must be at least {low}")
    parts = cut(scan(args.data_dir), args.classes, args.least, args.test, args.seed)
    write_new(
        {
            f"{part}/{photo.class_name}/{photo.path.name}": photo.path
            for part, photos in parts.items()
            for photo in photos
        },
        args.output_dir,
    )
    for part, photos in parts.items():
        of = [photo.class_name for photo in photos]
        each = ", ".join(f"{name} {of.count(name)}" for name in dict.fromkeys(of))
        print(f"{args.output_dir / part}: {len(photos):,} images ({each})")


if __name__ == "__main__":
    run_script(main)
