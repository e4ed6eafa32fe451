"""A training from its photographs to its files, its report and its record in MLflow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from training import parallel, pretrained, tracking
from training.assess import assess
from training.captcha_dataset import Photo, classes_of
from training.checkpoint import BEST, LAST, META, Checkpoint, load_best
from training.cli import DataError
from training.fit import Machine, Scores, Training
from training.network import ImageClassifier, class_groups
from training.recipe import Recipe, spoken
from training.report import write_report
from training.splits import bootstrap, parts_of


@dataclass(frozen=True, slots=True)
class Job:
    """All that a training is made of, and where it goes."""

    recipe: Recipe
    photos: Sequence[Photo]
    machine: Machine
    output_dir: Path
    weights: Path | None = None  # to start from
    fold: tuple[int, int] | None = None  # its number from 1, and how many there are
    bag: tuple[int, int] | None = None  # likewise, of an ensemble's network
    mlflow: bool = True

    def start(self) -> Training:
        """A training that has done nothing yet. Raises DataError."""
        train, validation = parts_of(self.photos, self.recipe.validation_share, self.recipe.seed, self.fold)
        number = self.bag[0] if self.bag else 0
        if number:
            train = bootstrap(train, number, self.recipe.seed)
        training = Training(self.recipe, classes_of(self.photos), train, validation, self.machine, number)
        if self.weights is not None:
            training.pretrained = pretrained.load(training.model, self.weights)
        return training

    def record(
        self, name: str, run_id: str | None = None, nested: bool = False
    ) -> AbstractContextManager[tracking.Run]:
        """The run in MLflow; none where it is not wanted, and none of the other processes."""
        if not self.mlflow or parallel.rank() > 0:
            return tracking.no_run()
        return tracking.run(name, run_id, nested)


def has_begun(folder: Path) -> bool:
    """Whether it holds a training, finished or not."""
    return (folder / META).exists() or (folder / LAST).exists()


def begun(folders: Sequence[Path], resume: bool) -> list[Path]:
    """Those that hold a training already. Raises DataError where there is one and nothing to go on with is wanted, or
    the reverse."""
    there = list(filter(has_begun, folders))
    if there and not resume:
        raise DataError(f"{there[0]} exists: --resume goes on with it; or remove it")
    if resume and not there:
        raise DataError(f"nothing to resume: {folders[0]} does not exist")
    return there


def epochs(training: Training) -> Iterator[Scores]:
    """The scores of each epoch that is left, once it is done; printed too."""
    while not training.finished:
        started = time.monotonic()
        scores = training.epoch()
        if parallel.rank() == 0:
            print(
                f"epoch {len(training.history)}/{training.recipe.epochs}: loss {scores['train_loss']:.4f}, accuracy "
                f"{scores['train_accuracy']:.4f}; validation loss {scores['val_loss']:.4f}, accuracy "
                f"{scores['val_accuracy']:.4f} ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
        yield scores


def run(job: Job, resume: bool, nested: bool = False) -> Scores:
    """Train, or go on with the training in the output folder; the scores of the best epoch. Raises DataError."""
    training = job.start()
    checkpoint = Checkpoint(job.output_dir, training, job.photos, job.fold, job.bag)
    if job.weights is not None:
        checkpoint.meta["earlier"] = pretrained.provenance(job.weights)
    if resume and (scores := checkpoint.finished()):
        if parallel.rank() == 0:
            print(f"{job.output_dir} is finished: {_best(job.recipe, scores)}")
        return scores
    run_id = checkpoint.open(resume)
    if parallel.rank() == 0:
        print(
            f"{len(training.train_photos):,} images to train on, {len(training.validation_photos):,} to validate, "
            f"groups {', '.join(training.members)}; on {job.machine.device.type}, {parallel.size()} process(es)"
        )
    with job.record(job.output_dir.name, run_id, nested) as record:
        if run_id is None:
            record.log_parameters(asdict(job.recipe) | {"pretrained": training.pretrained} | checkpoint.meta["data"])
        for scores in epochs(training):
            checkpoint.save(record.id)
            record.log_scores(scores, len(training.history))
        if parallel.rank() == 0:
            _finish(job, training, checkpoint, record)
    return training.best


def _finish(job: Job, training: Training, checkpoint: Checkpoint, record: tracking.Run) -> None:
    recipe, best = job.recipe, training.best
    if len(training.history) < recipe.epochs:
        print(f"no better {spoken(recipe.select_by)} for {recipe.patience} epochs: stopped early")
    model = ImageClassifier(class_groups(training.members), recipe.architecture, recipe.head)
    load_best(model, job.output_dir)
    size = recipe.input_size[-1]
    assessment = assess(model, training.validation_photos, training.members, recipe, job.machine)
    page = write_report(job.output_dir / "report", checkpoint.meta, assessment)
    record.log_folder(page.parent, "report")
    record.log_model(model.cpu().eval(), size, [f"torch=={checkpoint.meta['versions']['torch']}"])
    checkpoint.close()
    print(f"{_best(recipe, best)}: {job.output_dir / BEST}, {page}")


def _best(recipe: Recipe, scores: Scores) -> str:
    return f"best {spoken(recipe.select_by)} {scores[recipe.select_by]:.4f}"
