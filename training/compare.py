"""Trainings that differ in one thing, compared on photographs that none of them saw: networks, or variants of a recipe.

    python training/compare.py --data_dir tail/train --test_dir tail/test --output_dir comparison --recipe FILE \
        --variants training/variants/unbalanced.yaml --seeds 0 1 2

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from training import parallel, recipe
from training.captcha_dataset import readable, scan
from training.checkpoint import LAST, META
from training.cli import run_script
from training.fit import Machine
from training.runner import Job, run


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data_dir", type=Path)
    parser.add_argument("--output_dir", type=Path)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--variants", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+")
    args = parser.parse_args(argv)
    base = recipe.from_record(recipe.read_file(args.recipe))
    machine = Machine(parallel.join(), 0, False, True)
    photos = readable(scan(args.data_dir), 1)
    for seed in args.seeds:
        for name, changes in yaml.safe_load(args.variants.read_text()).items():
            folder = args.output_dir / name / f"seed_{seed}"
            print(name, seed, flush=True)
            begun = (folder / META).exists() or (folder / LAST).exists()
            run(Job(replace(base, **changes, seed=seed), photos, machine, folder, mlflow=False), begun)


if __name__ == "__main__":
    run_script(main)
