"""Turn a Label Studio export into two-level folders to train on: `OUT/train/<group>/<class>/*` and `OUT/val/...`.

    python training/convert_labelstudio.py export.json --image-dir photos --output-dir data

`export.json` is Label Studio's JSON or JSON-MIN. A choice `group/class` names both; a plain choice is group and class
at once; with `--group KEY --class KEY` two choices of a task name them. Everything that is left out is named on stderr:
tasks without a choice, images whose labels disagree, that are missing, that are of another type or that several files
may be.

Every class is split by itself: a share of its images, at least one, is for `val`, as long as two stay in `train`, for
training splits again. Images are the same where their bytes are; of such the first is taken. The files are hard links
where the file system allows. An image that `--image-dir` has under the export's path is taken from there, or under the
end of that path; else the file of that name in any folder below, also without the prefix and with the characters that
Label Studio changed at the upload. Links that lead out of `--image-dir` and hidden files are never taken.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from handlers.image import SUFFIXES
from training import labelstudio
from training.cli import DataError, run_script
from training.files import refuse_existing, write_new
from training.folders import is_image
from training.labelstudio import Label, Task

_MAX_NAMED = 20  # of what is left out for one reason
_MAX_DEPTH = 32  # folders of an export's path that count; its length is anyone's
_UPLOADED = re.compile("[0-9a-f]{8}-(.+)")
_REASONS = {
    "unlabelled": "no annotation, cancelled, or no choice",
    "conflicting": "several labels for one image",
    "missing": "not in --image-dir",
    "ambiguous": "several files of that name in --image-dir",
    "unsupported": f"not of {', '.join(sorted(SUFFIXES))}",
}


class ImageFolder:
    """The images below a folder. They are listed once, so a path of the export is only ever compared."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder; --image-dir has the images that were labelled")
        self._by_path: dict[str, Path] = {}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_upload: dict[str, list[Path]] = defaultdict(list)
        inside = root.resolve()
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(folder, name) for name in names):
                if is_image(path) and (not path.is_symlink() or path.resolve().is_relative_to(inside)):
                    self._by_path[_composed(path.relative_to(root).as_posix())] = path
                    self._by_name[_composed(path.name)].append(path)
                    self._by_upload[_as_uploaded(_composed(path.name))].append(path)

    def find(self, reference: str) -> list[Path]:
        """All files that a task's URL or path may mean."""
        found = (self._find(path) for path in labelstudio.paths(_composed(reference)))
        return next((files for files in found if files), [])

    def _find(self, path: str) -> list[Path]:
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")][-_MAX_DEPTH:]
        for start in range(max(1, len(parts) - 1)):  # a name alone is no path, unless it is all there is
            if file := self._by_path.get("/".join(parts[start:])):
                return [file]
        name = parts[-1] if parts else ""
        if name not in self._by_name and "upload" in parts and (match := _UPLOADED.fullmatch(name)):
            return self._by_upload.get(match[1], [])
        return self._by_name.get(name, [])


def _composed(text: str) -> str:
    """macOS stores e.g. Hangul in parts, browsers send it whole."""
    return unicodedata.normalize("NFC", text)


def _as_uploaded(name: str) -> str:
    """As Label Studio (by Django's rule) stores an uploaded file of this name, behind its prefix."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def sort_out(tasks: Sequence[Task], images: ImageFolder) -> tuple[dict[Label, list[Path]], dict[str, list[str]]]:
    """Each label's images, and what is left out by its reason. Raises DataError where a file cannot be read."""
    left_out: dict[str, list[str]] = {reason: [] for reason in _REASONS}
    by_content: dict[bytes, tuple[Path, str, set[Label]]] = {}
    for task in tqdm(tasks, "reading", unit="task", leave=False, disable=None):
        files = images.find(task.image)
        if not task.labels:
            left_out["unlabelled"].append(task.name)
        elif task.image and not labelstudio.has_suffix(task.image, SUFFIXES):
            left_out["unsupported"].append(task.name)
        elif len(files) != 1:
            left_out["ambiguous" if files else "missing"].append(task.name)
        else:
            _, _, labels = by_content.setdefault(_digest(files[0]), (files[0], task.name, set()))
            labels |= task.labels
    good: dict[Label, list[Path]] = defaultdict(list)
    for path, name, labels in by_content.values():
        if len(labels) == 1:
            good[next(iter(labels))].append(path)
        else:
            left_out["conflicting"].append(f"{name}: {', '.join(sorted(map('/'.join, labels)))}")
    return {label: sorted(good[label]) for label in sorted(good)}, left_out


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def places(paths: Sequence[Path], validation_share: float, seed: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """One class's files for train and for val by their new names: no two are the same, whatever case counts."""
    names: dict[str, Path] = {}
    taken = set[str]()
    numbers: dict[str, Iterator[int]] = defaultdict(lambda: itertools.count(2))
    for path in paths:
        name = path.name
        while name.casefold() in taken:
            name = f"{path.stem}_{next(numbers[path.name.casefold()])}{path.suffix}"
        taken.add(name.casefold())
        names[name] = path
    count = max(0, min(max(1, round(validation_share * len(names))), len(names) - 2))
    val = set(random.Random(seed).sample(sorted(names), count))  # noqa: S311 (no secret)
    return {name: names[name] for name in names if name not in val}, {name: names[name] for name in sorted(val)}


def _report(left_out: Mapping[str, Sequence[str]]) -> None:
    for reason, names in left_out.items():
        if names:
            print(f"left out, {reason} ({_REASONS[reason]}): {len(names):,}", file=sys.stderr)
            for name in names[:_MAX_NAMED]:
                print(f"  {name}", file=sys.stderr)
            if len(names) > _MAX_NAMED:
                print(f"  and {len(names) - _MAX_NAMED:,} more", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Turn a Label Studio export into folders to train on.")
    parser.add_argument("export", type=Path, help="a file in the format JSON or JSON-MIN")
    parser.add_argument("--image-dir", "--image_dir", type=Path, required=True, help="has the images, at any depth")
    parser.add_argument("--output-dir", "--output_dir", type=Path, required=True, help="must not exist")
    parser.add_argument("--validation_share", type=float, default=0.1, help="of every class (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--zip", action="store_true", help="write OUTPUT_DIR.zip, too")
    parser.add_argument("--image", metavar="KEY", help="the key of the image, where several hold one")
    parser.add_argument("--group", metavar="KEY", help="the choices that name the group (default: those of --class)")
    parser.add_argument("--class", metavar="KEY", dest="class_", help="the choices that name the class")
    args = parser.parse_args(argv)
    if not 0 < args.validation_share < 1:
        raise DataError("--validation_share must lie between 0 and 1")
    refuse_existing(args.output_dir, args.zip)
    tasks = labelstudio.read(args.export, args.image, args.group, args.class_)
    photos, left_out = sort_out(tasks, ImageFolder(args.image_dir))
    _report(left_out)
    if not photos:
        raise DataError(f"no image of {args.export} can be converted; nothing is written")

    parts = {  # a seed for each class: images of another one change nothing
        label: places(paths, args.validation_share, f"{args.seed} {'/'.join(label)}") for label, paths in photos.items()
    }
    files = {
        f"{part}/{group}/{name}/{file}": path
        for (group, name), split in parts.items()
        for part, members in zip(("train", "val"), split, strict=True)
        for file, path in members.items()
    }
    write_new(files, args.output_dir, args.zip)
    _summarise({label: (len(train), len(val)) for label, (train, val) in parts.items()})


def _summarise(counts: Mapping[Label, tuple[int, int]]) -> None:
    for (group, name), (train, val) in counts.items():
        if not val:
            print(
                f"note: {group}/{name} has {train} image(s), all in train: val needs three, training two",
                file=sys.stderr,
            )
    for group, of_group in itertools.groupby(counts.items(), key=lambda item: item[0][0]):
        classes = [(name, *count) for (_, name), count in of_group]
        print(f"{group}: {sum(train for _, train, _ in classes):,} train, {sum(val for *_, val in classes):,} val")
        for name, train, val in classes:
            print(f"  {name}: {train:,} train, {val:,} val")
    train, val = (sum(numbers) for numbers in zip(*counts.values(), strict=True))
    print(f"total: {train:,} train, {val:,} val, {len(counts)} classes")


if __name__ == "__main__":
    run_script(main)
