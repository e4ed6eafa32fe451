"""Draw glasses, cups and bottles, with a drink in them, empty, or so that nobody can tell: images for a stand-in model.

    python training/draw_beverages.py --output_dir images --count 3000

makes `images/<label>/<label>_<n>.jpg` for the labels empty, with_beverage and unclear, 128 x 128 pixels each, as
train_image.py reads them. The same options draw the same files. `--unseen` draws vessels (wine glass, teacup, carafe),
drinks, grounds and covers that are in no drawing without it: what a model does with those says more about it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from training.cli import DataError, run_script
from training.drawings.scenes import LABELS, Label, draw
from training.files import refuse_existing


def encoded(drawing: tuple[Label, int], seed: int, unseen: bool) -> bytes:
    """The JPEG of the label's drawing with that number."""
    label, number = drawing
    random = np.random.default_rng([seed, LABELS.index(label), number])
    pixels = draw(label, random, unseen)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(60, 96))]
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)[1].tobytes()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw vessels, empty and with a drink, for a stand-in model.")
    parser.add_argument("--output_dir", type=Path, default=Path("images"), help="must not exist (default: %(default)s)")
    parser.add_argument("--count", type=int, default=3000, help="drawings of each label (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another one draws others (default: %(default)s)")
    parser.add_argument("--unseen", action="store_true", help="only what is in no drawing without this option")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw (default: %(default)s)")
    args = parser.parse_args(argv)
    for name, low in (("count", 1), ("seed", 0), ("workers", 1)):
        if getattr(args, name) < low:
            raise DataError(f"--{name} must be at least {low}")
    refuse_existing(args.output_dir)
    drawings = list(product(LABELS, range(1, args.count + 1)))
    one = partial(encoded, seed=args.seed, unseen=args.unseen)
    try:
        for label in LABELS:
            (args.output_dir / label).mkdir(parents=True)
        with ProcessPoolExecutor(
            args.workers, get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
        ) as pool:
            files = pool.map(one, drawings, chunksize=16)
            shown = tqdm(files, "drawing", len(drawings), unit="file", leave=False, disable=None)
            for (label, number), data in zip(drawings, shown, strict=True):
                (args.output_dir / label / f"{label}_{number}.jpg").write_bytes(data)
    except OSError as error:
        raise DataError(f"cannot write {args.output_dir}: {error.strerror}") from None
    print(f"{args.output_dir}: {args.count:,} drawings each of {', '.join(LABELS)}")


if __name__ == "__main__":
    run_script(main)
