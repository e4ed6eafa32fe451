"""Train a network to tell the groups of a folder of images apart, taught by their classes too where it has two levels.

    python training/train_image.py --data_dir images --output_dir models [--recipe training/recipes/digit.yaml]

A recipe is a file with the names and values of the options below `recipe` in `--help`; the command line goes before it.
`models/` gets `best_model.pth` and `meta.json` (of the epoch with the best score: classes,
preprocessing, scores, recipe, versions, fingerprint of the data), `report/index.html`, and while it trains `last.pth`,
which `--resume` goes on from. MLflow keeps the same, see tracking.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training import parallel, recipe, tracking
from training.bags import train
from training.captcha_dataset import readable, scan
from training.cli import DataError, run_script
from training.fit import Machine
from training.folds import cross_validate
from training.runner import Job
from training.tune import search


def main(argv: Sequence[str] | None = None) -> None:
    args = _parse(argv)
    hyper_parameters = recipe.from_arguments(args)
    machine = Machine(parallel.join(), args.workers, args.compile, args.bfloat16)
    try:
        if args.tune and parallel.size() > 1:
            raise DataError("--tune runs in one process: several would propose different recipes")
        photos = scan(args.data_dir)
        if not args.no_mlflow and parallel.rank() == 0:
            tracking.connect(args.experiment)
        photos = readable(photos, args.workers)
        job = Job(hyper_parameters, photos, machine, args.output_dir, args.weights, mlflow=not args.no_mlflow)
        if args.tune:
            search(job, args.tune, args.resume)
        elif args.folds:
            cross_validate(job, args.folds, args.resume)
        else:
            train(job, args.resume)
    finally:
        parallel.leave()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train an image model on a folder of labelled images.")
    parser.add_argument(
        "--data_dir", type=Path, default=Path("images"), help="<group>/<class>/*.jpg|png|webp, or <group>/*"
    )
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="where the options of the recipe come from")
    parser.add_argument("--output_dir", type=Path, default=Path("models"), help="default: %(default)s")
    parser.add_argument(
        "--weights", type=Path, help="start from these: torchvision's of the same network, or best_model.pth"
    )
    parser.add_argument("--resume", action="store_true", help="go on with what was interrupted in --output_dir")
    parser.add_argument("--folds", type=int, metavar="K", help="stratified cross-validation with K models instead")
    parser.add_argument("--tune", type=int, metavar="N", help="search for a better recipe in N trials instead")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode images (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="torch.compile: minutes to start, then faster epochs")
    parser.add_argument(
        "--bfloat16", action="store_true", help="lower precision on a CPU: faster where it has AMX. A GPU always does"
    )
    parser.add_argument("--experiment", help="its name in MLflow (default: the recipe's, else captcha_image)")
    parser.add_argument("--no_mlflow", action="store_true", help="keep no record in MLflow")
    recipe.add_arguments(parser.add_argument_group("recipe, which decides the result"))
    if file := parser.parse_known_args(argv)[0].recipe:
        parser.set_defaults(**recipe.read_file(file))
    args = parser.parse_args(argv)
    args.experiment = args.experiment or (args.recipe.stem if args.recipe else "captcha_image")
    for name, low in (("workers", 0), ("folds", 2), ("tune", 1)):
        if getattr(args, name) is not None and getattr(args, name) < low:
            raise DataError(f"--{name} must be at least {low}")
    ways = {"--folds": args.folds, "--tune": args.tune, f"--bags {args.bags}": args.bags > 1}
    if len(chosen := [name for name, wanted in ways.items() if wanted]) > 1:
        raise DataError(f"{' and '.join(chosen)} exclude each other")
    return args


if __name__ == "__main__":
    run_script(main)
