"""Name the images of a two-level photo folder after their class: `images/<group>/<class>/<class>_<n>.<ext>`.

    python training/name_changer.py --data_dir ./images --dry-run

The rule: an image named `<class>_<n>` keeps its number; every other one takes the lowest number that is free, in
natural order (`b2` before `b10`). Extensions become lower case and stay otherwise. A number belongs to one image,
whatever its extension; of several that have it, the first keeps it, and right names come first.

So a new name is always one that nothing has, and the order of the renames does not matter. A file gets its new name as
a hard link, which cannot overwrite, before it loses the old one. Killed in between, it has both names, and the next run
takes the old one away; several names (hard links) of one file in a folder therefore count as one image.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from handlers.image import SUFFIXES
from training.cli import DataError, run_script
from training.folders import class_folders, is_image


def plan(folder: Path) -> list[tuple[Path, Path]]:
    """(present, right) name of each image of a class folder, in natural order."""
    entries = sorted(folder.iterdir(), key=_natural)
    numbered = re.compile(re.escape(folder.name) + "_([1-9][0-9]*)")
    keeper: dict[int, Path] = {}  # of each number; folders and dead links count, for their names are taken as well
    for path in sorted(entries, key=lambda p: p.suffix != p.suffix.lower()):
        if path.suffix.lower() in SUFFIXES and (match := numbered.fullmatch(path.stem)):
            keeper.setdefault(int(match[1]), path)

    images = [path for path in entries if is_image(path)]
    right = {path: path.with_suffix(path.suffix.lower()) for path in keeper.values()}
    by_file = {_file(path): right[path] for path in images if path in right}
    free = (number for number in itertools.count(1) if number not in keeper)
    for path in images:
        if path not in right:
            if _file(path) not in by_file:
                by_file[_file(path)] = folder / f"{folder.name}_{next(free)}{path.suffix.lower()}"
            right[path] = by_file[_file(path)]
    return [(path, right[path]) for path in images]


def rename(old: Path, new: Path) -> None:
    """Never overwrites; `new` may exist as another name of the same file. Raises DataError where it cannot."""
    try:
        try:
            os.link(old, new, follow_symlinks=False)
        except FileExistsError:
            if _file(old) != _file(new):
                raise
        old.unlink()
    except OSError as error:
        raise DataError(f"{old} cannot become {new.name} ({error.strerror}); nothing is lost, run again") from error


def _file(path: Path) -> tuple[int, int]:
    """What all hard links of a file have in common."""
    status = path.lstat()
    return status.st_dev, status.st_ino


def _natural(path: Path) -> tuple[list[int | str], str]:
    """Sorts digits by their value; every second part is digits, so that like meets like. The name breaks ties."""
    parts = re.split("([0-9]+)", path.name)
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], path.name


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Rename the images of <group>/<class>/ to <class>_<n>.<ext>.")
    parser.add_argument("--data_dir", type=Path, default=Path("images"), help="default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="print what would happen, change nothing")
    args = parser.parse_args(argv)
    renamed = kept = others = 0
    for folder in class_folders(args.data_dir):
        names = plan(folder)
        for path in sorted(set(folder.iterdir()) - {old for old, _ in names}):
            print(f"left alone, not an image: {str(path)!r}")  # repr: a name may hold line breaks or undecodable bytes
            others += 1
        for old, new in names:
            if old == new:
                kept += 1
                continue
            renamed += 1
            if args.dry_run:
                print(f"{str(old)!r} -> {new.name!r}")
            else:
                rename(old, new)
    if not renamed + kept:
        raise DataError(f"no images in {args.data_dir}/<group>/<class>/ ({', '.join(sorted(SUFFIXES))})")
    verb = "to rename" if args.dry_run else "renamed"
    print(f"{renamed:,} {verb}, {kept:,} already right, {others:,} other files left alone")


if __name__ == "__main__":
    run_script(main)
