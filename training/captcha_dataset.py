"""Photographs in a two-level folder `images/<group>/<class>/*.jpg|png`: the label is the group. Hidden files are none.

As a script it counts them: `python training/captcha_dataset.py --data_dir ./images`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset

from handlers import image
from handlers.errors import RequestError
from handlers.image import SUFFIXES
from training.cli import DataError, run_script
from training.folders import class_folders, is_image


@dataclass(frozen=True, slots=True)
class Photo:
    path: Path
    group: str
    class_name: str


def scan(data_dir: Path) -> list[Photo]:
    """All photographs below `data_dir`, sorted by path. Raises DataError where the layout is not the two-level one."""
    photos = []
    for folder in class_folders(data_dir):
        found = [path for path in sorted(folder.iterdir()) if is_image(path)]
        if not found:
            raise DataError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}); fill it or remove it")
        photos += [Photo(path, folder.parent.name, folder.name) for path in found]
    groups = {photo.group for photo in photos}
    if len(groups) < 2:
        raise DataError(f"{data_dir} has {len(groups)} group(s) with images; a classifier needs at least two")
    return photos


def split(photos: Sequence[Photo], validation_share: float, seed: int) -> tuple[list[Photo], list[Photo]]:
    """Training and validation photographs, every class in the same proportion."""
    classes = [f"{photo.group}/{photo.class_name}" for photo in photos]
    rarest, count = min(Counter(classes).items(), key=lambda item: item[1])
    if count < 2:
        raise DataError(f"{rarest} has only one image; a split by class needs at least two")
    share = max(round(validation_share * len(photos)), len(set(classes)))
    if share >= len(photos) - len(set(classes)) + 1:
        raise DataError(f"{len(photos)} images in {len(set(classes))} classes are too few to set some apart")
    train, validation = train_test_split(photos, test_size=share, random_state=seed, stratify=classes)
    return list(train), list(validation)


def fingerprint(photos: Sequence[Photo]) -> str:
    """SHA-256 over every file's place and bytes: two data sets with the same fingerprint are the same."""
    digest = hashlib.sha256()
    for photo in photos:
        place = f"{photo.group}/{photo.class_name}/{photo.path.name}"
        digest.update(os.fsencode(place) + b"\0" + hashlib.sha256(photo.path.read_bytes()).digest())
    return digest.hexdigest()


def classes_of(photos: Sequence[Photo]) -> dict[str, list[str]]:
    """Every group's classes, both sorted: the order in which networks count them."""
    groups = sorted({photo.group for photo in photos})
    return {group: sorted({photo.class_name for photo in photos if photo.group == group}) for group in groups}


class CaptchaDataset(Dataset[tuple[torch.Tensor, int]]):
    """Photographs as the handlers decode them: uint8 (3, size, size), and the index of their class.

    `augment` maps one uint8 image (3, H, W) to another; without it an image is resized and cropped as in serving.
    An item that cannot be decoded raises DataError with its path.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        members: Mapping[str, Sequence[str]],
        size: int,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.photos = photos
        self.size = size
        self.augment = augment
        pairs = [(group, name) for group, classes in members.items() for name in classes]
        self._index = {pair: index for index, pair in enumerate(pairs)}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
        photo = self.photos[item]
        data = photo.path.read_bytes()
        try:
            if self.augment is None:
                pixels = torch.from_numpy(image.load(data, self.size)).permute(2, 0, 1)
            else:
                whole = image.decode(data, shorter_side=self.size)
                pixels = self.augment(torch.from_numpy(whole).permute(2, 0, 1))
        except RequestError as error:
            raise DataError(f"{photo.path}: {error}") from None
        return pixels, self._index[photo.group, photo.class_name]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Count the photographs of a two-level folder <group>/<class>/*.")
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
