"""Trainings that differ in one thing, compared on photographs that none of them saw: networks, or variants of a recipe.

    python training/compare.py --data_dir data/train --test_dir data/test --output_dir comparison \
        --recipe training/recipes/wallpaper_defect.yaml \
        --architectures resnet152 densenet161 inception_v3 efficientnet_v2_m

    python training/compare.py --data_dir tail/train --test_dir tail/test --output_dir comparison \
        --recipe training/recipes/long_tail.yaml --variants training/variants/unbalanced.yaml --seeds 0 1 2

It prints a table, and writes it as `comparison.md`, every training's figures as `comparison.csv` and `.json`, and a
plot as `comparison.png`. The same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from training import comparison, parallel, recipe
from training.bags import folders_of, train
from training.captcha_dataset import classes_of, readable, scan
from training.cli import DataError, run_script
from training.fit import Machine
from training.recipe import Recipe, from_record, read_file
from training.runner import Job, has_begun


def candidates(base: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]) -> dict[str, Recipe]:
    """A recipe for every name: the base with the fields that the variant changes. Raises DataError."""
    recipes = {}
    for name, changes in variants.items():
        try:
            recipes[name] = from_record({**base, **changes})
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
    return recipes


def read_variants(path: Path) -> dict[str, dict[str, Any]]:
    """A YAML file with one `name: {field: value, ...}` per line. Raises DataError."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"--variants {path} cannot be read: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(changes, dict) for changes in content.values()):
        raise DataError(f"--variants {path} must have one 'name: {{field: value}}' per line")
    for name, changes in content.items():
        if Path(str(name)).name != str(name):
            raise DataError(f"--variants {path}: {name!r} is to be a folder's name")
        recipe.check_fields(changes, f"--variants {path}: {name}")
    return {str(name): changes for name, changes in content.items()}


def main(argv: Sequence[str] | None = None) -> None:
    args = _parse(argv)
    base = read_file(args.recipe) if args.recipe else {}
    if args.input_size:
        base["input_size"] = args.input_size
    variants = read_variants(args.variants) if args.variants else {n: {"architecture": n} for n in args.architectures}
    recipes = candidates(base, variants)  # whatever is wrong with them is said before anything trains
    machine = Machine(parallel.join(), args.workers, args.compile, args.bfloat16)
    if parallel.size() > 1:
        parallel.leave()
        raise DataError("a comparison runs in one process")
    photos, test = (readable(scan(folder), args.workers) for folder in (args.data_dir, args.test_dir))
    if strangers := sorted({photo.group for photo in test} - set(classes_of(photos))):
        raise DataError(f"{args.test_dir} has {', '.join(strangers)}, which {args.data_dir} has not")
    results = []
    for seed in args.seeds:
        for name, one in recipes.items():
            print(f"{name}, seed {seed}", flush=True)
            folder = args.output_dir / name / f"seed_{seed}"
            job = Job(replace(one, seed=seed), photos, machine, folder, args.weights, mlflow=False)
            train(job, resume=has_begun(folders_of(job)[0]))  # or leave it where it is finished
            frequencies = Counter(photo.group for photo in photos)
            results.append({"name": name, "seed": seed, **comparison.measure(job, test, frequencies)})
            comparison.write(args.output_dir, results)
    print(comparison.table(results))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train alike what differs in one thing, and compare.")
    parser.add_argument("--data_dir", type=Path, required=True, help="what all are trained on")
    parser.add_argument("--test_dir", type=Path, required=True, help="the same groups, on photographs that none saw")
    parser.add_argument("--output_dir", type=Path, default=Path("comparison"), help="default: %(default)s")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="what they have in common")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--architectures", nargs="+", metavar="NAME", help="the networks, as torchvision names them")
    what.add_argument(
        "--variants", type=Path, metavar="FILE", help="names, and which of the recipe's fields each changes"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each anew with every seed (default: 0)")
    parser.add_argument("--input_size", type=int, nargs="+", help="instead of the recipe's")
    parser.add_argument("--weights", type=Path, help="start all from these, which fits one architecture")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode images (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="as of train_image.py")
    parser.add_argument("--bfloat16", action="store_true", help="as of train_image.py")
    args = parser.parse_args(argv)
    if args.workers < 0:
        raise DataError("--workers must be at least 0")
    return args


if __name__ == "__main__":
    run_script(main)
