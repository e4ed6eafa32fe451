"""Images in a folder `images/<group>/<class>/*.jpg|png`, or `images/<group>/*`: the label is the group. Hidden files
are none.

As a script it counts them: `python training/captcha_dataset.py --data_dir ./images`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from handlers import image
from handlers.errors import RequestError
from handlers.image import SUFFIXES
from handlers.loaders import LOADERS
from training.cli import DataError, run_script
from training.folders import class_folders, is_image
from training.recipe import Preprocessing

_CHECKED_SIDE = 224  # large photographs are decoded at a reduced scale, which meets damage as well
_MAX_NAMED = 20  # of the unreadable images


@dataclass(frozen=True, slots=True)
class Photo:
    path: Path
    group: str
    class_name: str  # the group's own where that has no classes


def scan(data_dir: Path) -> list[Photo]:
    """All photographs below `data_dir`, sorted by path. Raises DataError where the layout is neither of the two."""
    photos = []
    for folder in class_folders(data_dir, or_groups=True):
        found = [path for path in sorted(folder.iterdir()) if is_image(path)]
        if not found:
            raise DataError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}); fill it or remove it")
        group = folder if folder.parent == data_dir else folder.parent
        photos += [Photo(path, group.name, folder.name) for path in found]
    groups = {photo.group for photo in photos}
    if len(groups) < 2:
        raise DataError(f"{data_dir} has {len(groups)} group(s) with images; a classifier needs at least two")
    return photos


def readable(photos: Sequence[Photo], workers: int) -> list[Photo]:
    """Those that decode; the others are counted and named on stderr. Raises DataError where a class loses all."""
    with ThreadPoolExecutor(max(1, workers)) as pool:  # decoding leaves Python's lock
        found = list(tqdm(pool.map(_problem, photos), "reading", len(photos), unit="photo", leave=False, disable=None))
    problems = [(photo, problem) for photo, problem in zip(photos, found, strict=True) if problem]
    for photo, problem in problems[:_MAX_NAMED]:
        print(f"skipped {photo.path}: {problem}", file=sys.stderr)
    if problems:
        print(f"skipped {len(problems):,} of {len(photos):,} images that cannot be read", file=sys.stderr)
    good = [photo for photo, problem in zip(photos, found, strict=True) if not problem]
    for folder in sorted({photo.path.parent for photo in photos} - {photo.path.parent for photo in good}):
        raise DataError(f"{folder} holds no image that can be read; fill it or remove it")
    return good


def _problem(photo: Photo) -> str | None:
    try:
        image.decode(photo.path.read_bytes(), shorter_side=_CHECKED_SIDE)
    except RequestError as error:
        return str(error)
    except OSError as error:
        return str(error.strerror)
    return None


def fingerprint(photos: Sequence[Photo]) -> str:
    """SHA-256 over every file's place and bytes: two data sets with the same fingerprint are the same."""
    digest = hashlib.sha256()
    for photo in photos:
        place = f"{photo.group}/{photo.class_name}/{photo.path.name}"
        digest.update(os.fsencode(place) + b"\0" + hashlib.sha256(photo.path.read_bytes()).digest())
    return digest.hexdigest()


def by_class(photos: Sequence[Photo]) -> dict[tuple[str, str], list[Photo]]:
    """The photographs of every group's every class, in their order."""
    found: dict[tuple[str, str], list[Photo]] = {}
    for photo in photos:
        found.setdefault((photo.group, photo.class_name), []).append(photo)
    return found


def classes_of(photos: Sequence[Photo]) -> dict[str, list[str]]:
    """Every group's classes, both sorted: the order in which networks count them."""
    groups = sorted({photo.group for photo in photos})
    return {group: sorted({photo.class_name for photo in photos if photo.group == group}) for group in groups}


class CaptchaDataset(Dataset[tuple[torch.Tensor, int]]):
    """Photographs as the handlers decode them: uint8 (3, size, size), and the index of their class.

    `augment` maps one uint8 image (3, H, W) to another: the whole image, or with a `preprocessing` other than "crop"
    what that makes of it. Without it an image is as in serving.
    An item that cannot be decoded raises DataError with its path.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        members: Mapping[str, Sequence[str]],
        size: int,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
        preprocessing: Preprocessing = "crop",
    ) -> None:
        self.photos = photos
        self.size = size
        self.augment = augment
        self._whole = augment is not None and preprocessing == "crop"
        self._load = LOADERS[preprocessing]
        pairs = [(group, name) for group, classes in members.items() for name in classes]
        self._index = {pair: index for index, pair in enumerate(pairs)}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
        photo = self.photos[item]
        data = photo.path.read_bytes()
        try:
            seen = (
                image.decode(data, shorter_side=self.size)
                if self._whole
                else self._load(data, self.size, image.Limits())
            )
            pixels = torch.from_numpy(seen).permute(2, 0, 1)
            if self.augment is not None:
                pixels = self.augment(pixels)
        except RequestError as error:
            raise DataError(f"{photo.path}: {error}") from None
        return pixels, self._index[photo.group, photo.class_name]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Count the images of a folder <group>/<class>/* or <group>/*.")
    parser.add_argument("--data_dir", type=Path, default=Path("images"), help="default: %(default)s")
    photos = scan(parser.parse_args(argv).data_dir)
    classes = Counter((photo.group, photo.class_name) for photo in photos)
    groups = Counter(photo.group for photo in photos)
    for group, in_group in groups.items():
        print(f"{group}: {in_group:,} images")
        for (of, name), count in classes.items():
            if of == group:
                print(f"  {name}: {count:,}")
    print(f"total: {len(photos):,} images, {len(classes)} classes, {len(groups)} groups")


if __name__ == "__main__":
    run_script(main)
