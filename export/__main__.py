"""`python -m export NAME`: make model_store/NAME.mar and its model card. No archive is written when a gate fails."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from export import selftest
from export.behaviour import export_forest
from export.card import fill_card
from export.cascade import cascade_record, opencv_cascade
from export.comparison import table
from export.embedding import to_embedding
from export.errors import ExportError
from export.evaluation import read_evaluation
from export.image_classifier import ENSEMBLE, crops, export_classifier, photographs
from export.pack import pack
from export.precision import Precision, check_kind, to_precision
from export.repack import unpack
from export.spec import SPECS, ModelSpec, known_names, read_model_spec
from export.tabular import export_table
from handlers import interface
from handlers.errors import SpecError
from handlers.pool import Pool
from handlers.samples import read_samples

EMBEDDING, CLASSIFIER = "image_embedding", "image_classification"  # tasks: the one is cut out of the other
TRAINED = (
    CLASSIFIER,
    EMBEDDING,
    ENSEMBLE,
    "digit_recognition",
    "yes_no",
)  # of networks that training/train_image.py trains
MAX_BYTES = 20 * 10**6  # a released archive lives in the repository


@dataclass(frozen=True, slots=True)
class Sources:
    """What a model is made from: a checkpoint or a pool, as its spec wants, or an archive to be packed again."""

    checkpoint: Path | None = None
    data_dir: Path | None = None
    pool: Path | None = None
    archive: Path | None = None


@dataclass(frozen=True, slots=True)
class Notes:
    """What is said of a model, beside what its training recorded."""

    version: str | None = None
    data_note: str | None = None
    evaluation: Mapping[str, Path] = field(default_factory=dict)  # what `marserve evaluate --json` printed, by folder


def export(name: str, sources: Sources, output_dir: Path, notes: Notes, precision: Precision = Precision()) -> Path:
    """Export one model and return its archive. Raises ExportError."""
    version = notes.version
    if version is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", version):
        raise ExportError(f"--version takes at most 64 letters, digits, '.', '_' and '-', not {version!r}")
    spec = read_model_spec(name)
    check_kind(precision, name, spec.handler)
    with tempfile.TemporaryDirectory(prefix="marserve-export-") as scratch:
        if sources.archive is not None:
            metadata, files = _from_archive(spec, sources.archive, Path(scratch, "source"))
        else:
            metadata, files = _from_parts(name, spec, sources, Path(scratch))
        if spec.handler.get("task") == EMBEDDING and "cut" not in metadata:
            size, example = spec.handler["network"]["input_shape"][0], _example(name, spec)
            inputs = photographs(sources.data_dir, size) if sources.data_dir else crops(example, size)
            to_embedding(spec.handler, metadata, files[spec.handler["network"]["file"]], inputs)
            _print_cut(metadata)
        if "data" in metadata:
            metadata["data"]["note"] = notes.data_note or metadata["data"].get("note") or "Not stated."
        metadata["version"] = version = version or _version(metadata, precision)
        metadata |= {"name": name, "task": spec.handler.get("task"), "source_commit": _source_commit()}
        if precision.kind != "float32":
            metadata.pop("evaluation", None)  # of the float32 network
        for part, file in notes.evaluation.items():
            metadata.setdefault("evaluation", {})[part] = read_evaluation(file, name, version)
        if "file" in spec.handler.get("example", {}):
            files[spec.handler["example"]["file"]] = _example(name, spec)
        read = spec.handler_spec()
        if read.samples:
            files[read.samples] = SPECS / f"{name}_{read.samples}"
            metadata["samples"] = _samples_record(files[read.samples], read.labels)

        def write(target: Path, files: Mapping[str, Path]) -> str:
            card = fill_card(SPECS / f"{name}.md", metadata | {"handler": spec.handler})
            pack(target, name, version, spec.to_yaml(), metadata, card, files)
            return card

        if precision.kind != "float32":
            place = spec.handler["network"]["file"]

            def packed_size(network: Path) -> int:
                write(Path(scratch, "sized.mar"), files | {place: network})
                return Path(scratch, "sized.mar").stat().st_size

            example = _example(name, spec)
            metadata |= to_precision(precision, read, metadata, files[place], example, packed_size)
            _print_precision(metadata)
        model = Path(scratch, "model")
        pipeline = selftest.staged(read, files, model)
        metadata[interface.SECTION] = interface.describe(read, pipeline.network)
        tests = selftest.record(read, pipeline, model, Path(scratch))
        files |= tests
        if not tests:
            print("note: no self-test: no answer is far from others, or nothing is known of the task", file=sys.stderr)
        archive = output_dir / f"{name}.mar"
        try:
            archive.with_suffix(".md").write_text(write(archive, files))
        except OSError as error:
            raise ExportError(f"cannot write {archive}: {error}") from error
    return archive


Parts = tuple[dict[str, Any], dict[str, Path]]  # the archive's metadata, and its files by their place inside


def _from_parts(name: str, spec: ModelSpec, sources: Sources, scratch: Path) -> Parts:
    """From a checkpoint, a pool, OpenCV's package; completes the spec with what the training decided."""
    metadata: dict[str, Any] = {}
    files: dict[str, Path] = {}
    if "network" in spec.handler:
        if sources.checkpoint is None:
            raise ExportError(f"{name} needs --checkpoint, as in --checkpoint models/best_model.pth")
        network = scratch / "model.onnx"
        files[spec.handler["network"]["file"]] = network
        if spec.handler["task"] in TRAINED:
            example = _example(name, spec)
            metadata |= export_classifier(sources.checkpoint, spec.handler, sources.data_dir, example, network)
        elif spec.handler["task"] == "tabular_classification":
            metadata |= export_table(sources.checkpoint, spec.handler, network)
        else:
            metadata |= export_forest(sources.checkpoint, spec.handler, network)
        parity = metadata["parity"]
        print(f"parity with the source: max difference {parity['max_difference']:.1e} on {parity['inputs']:,} inputs")
        if parity.get("flipped"):
            print(f"note: {parity['flipped']} of them change sides of the threshold")
        makers = ("torch", "onnxscript") if "members" in metadata else ("scikit-learn", "skl2onnx")
        metadata["exported_with"] = _versions(*makers, "onnx", "onnxruntime")
    if "pool" in spec.handler:
        if sources.pool is None:
            raise ExportError(f"{name} needs --pool: a folder made by `marserve pool build` or `make pool`")
        files[spec.handler["pool"]] = sources.pool
        metadata["pool"] = _pool_record(sources.pool)
    if cascade := spec.handler.get("cascade"):
        files[cascade] = opencv_cascade(cascade)
        metadata["cascade"] = cascade_record(files[cascade])
    return metadata, files


def _from_archive(spec: ModelSpec, archive: Path, scratch: Path) -> Parts:
    """An archive's own files and records, which its digests vouch for; today's spec, card and handlers."""
    metadata, handler = unpack(archive, scratch)
    files: dict[str, Path] = {}
    task = spec.handler.get("task")
    if handler.get("task") not in (task, CLASSIFIER if task == EMBEDDING else task):
        raise ExportError(f"{archive} is of another kind of model: it is for {handler.get('task')}, not for {task}")
    if "network" in spec.handler and "network" in handler:
        trained = ("labels", "features", "reference", "scaling", "threshold", "preprocessing")
        spec.handler |= {key: handler[key] for key in trained if key in handler}
        spec.handler["network"]["input_shape"] = handler["network"]["input_shape"]
        files[spec.handler["network"]["file"]] = scratch / handler["network"]["file"]
    for part in ("pool", "cascade"):
        if part in spec.handler and part in handler:
            files[spec.handler[part]] = scratch / handler[part]
    if len(files) < sum(part in spec.handler for part in ("network", "pool", "cascade")):
        raise ExportError(f"{archive} is of another kind of model: it lacks what the spec asks for")
    return metadata, files


def _example(name: str, spec: ModelSpec) -> Path:
    """Beside the spec, with its name."""
    return SPECS / f"{name}{Path(spec.handler['example']['file']).suffix}"


def _version(metadata: dict[str, Any], precision: Precision) -> str:
    """The source archive's, or the time of the training; another network of the same training is another version."""
    trained_at = metadata.get("trained_at")
    trained = datetime.fromisoformat(trained_at).strftime("%Y%m%d.%H%M") if trained_at else "1.0"
    base = metadata.get("version") or trained
    return base if precision.kind == "float32" else f"{base}-{precision.kind}"


def _print_precision(metadata: dict[str, Any]) -> None:
    if record := metadata.get("quantization"):
        print(table(record))
        print(
            f"{100 * record['equal_labels']:.1f} % of the labels are equal on {record['images']:,} unseen photographs"
        )
    else:
        half = metadata["float16"]
        print(
            f"parity with float32: max difference {half['max_difference']:.1e} on {half['inputs']:,} inputs, "
            f"{100 * half['equal_labels']:.1f} % of the labels are equal"
        )


def _print_cut(metadata: dict[str, Any]) -> None:
    record = metadata["cut"]
    print(
        f"parity with the classifier: max difference {record['max_difference']:.1e} of a probability, "
        f"{record['max_norm_error']:.1e} of the length, on {record['inputs']:,} inputs"
    )


def _pool_record(folder: Path) -> dict[str, Any]:
    try:
        loaded = Pool(folder)
    except SpecError as error:
        raise ExportError(str(error)) from error
    counts = loaded.counts
    return {"images": sum(counts.values()), "groups": counts, "attribution": loaded.attribution}


def _samples_record(file: Path, labels: Sequence[str]) -> dict[str, Any]:
    try:
        samples = read_samples(file, labels)
    except SpecError as error:
        raise ExportError(str(error)) from error
    return {"images": len(samples), "attribution": json.loads(file.read_bytes()).get("attribution") or "Not stated."}


def _versions(*names: str) -> dict[str, str]:
    return {name: library_version(name) for name in names}


def _source_commit() -> str:
    """The commit this is run from, with `-dirty` where files differ from it; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(command, cwd=SPECS, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git here
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _precision(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Precision:
    if args.quantize and args.fp16:
        parser.error("--quantize and --fp16 make different networks: choose one")
    if args.quantize == "static" and not args.calibration:
        parser.error("--quantize static needs --calibration DIR: photographs that give the activations' ranges")
    if args.calibration and args.quantize != "static":
        parser.error("--calibration is for --quantize static alone")
    if args.quantize and not args.unseen:
        parser.error("--quantize needs --unseen DIR: labelled photographs that no training saw, for its gate")
    if args.unseen and not args.quantize:
        parser.error("--unseen is for --quantize")
    return Precision(
        "float16" if args.fp16 else args.quantize or "float32", args.calibration, args.unseen, args.data_dir
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m export", description="Make model_store/NAME.mar.")
    parser.add_argument("name", help=f"one of {', '.join(known_names())}")
    parser.add_argument("--checkpoint", type=Path, help="best_model.pth, with its meta.json beside it")
    parser.add_argument("--data_dir", type=Path, help="photographs for the parity gate; default: crops of the example")
    parser.add_argument("--pool", type=Path, help="a pool's folder, for models that carry one")
    parser.add_argument("--archive", type=Path, help="instead: pack this archive again, with today's handlers and spec")
    parser.add_argument("--output_dir", type=Path, default=Path("model_store"), help="default: %(default)s")
    parser.add_argument("--version", help="default: date and time of the training")
    parser.add_argument("--data_note", help="for the model card: what the data is, its licence")
    parser.add_argument(
        "--evaluation",
        nargs="+",
        default=[],
        metavar="PART=FILE",
        help="for the model card: what `marserve evaluate NAME --json` printed for each folder, as in test=test.json",
    )
    parser.add_argument("--quantize", choices=("dynamic", "static"), help="8-bit weights, if the accuracy allows it")
    parser.add_argument("--calibration", type=Path, help="for --quantize static: photographs of the training part")
    parser.add_argument("--unseen", type=Path, help="for --quantize: labelled photographs that no training saw")
    parser.add_argument("--fp16", action="store_true", help="float16 weights and activations, for GPUs")
    args = parser.parse_args(argv)
    evaluation = dict(part.partition("=")[::2] for part in args.evaluation)
    if not all(re.fullmatch(r"\w{1,64}", part) and file for part, file in evaluation.items()):
        parser.error("--evaluation takes PART=FILE, where PART has letters, digits and '_' only")
    if args.archive and (args.checkpoint or args.pool or (args.data_dir and not args.fp16)):
        parser.error("--archive goes without --checkpoint, --pool and, but for --fp16, --data_dir")
    precision = _precision(parser, args)
    notes = Notes(args.version, args.data_note, {part: Path(file) for part, file in evaluation.items()})
    sources = Sources(args.checkpoint, args.data_dir, args.pool, args.archive)
    try:
        archive = export(args.name, sources, args.output_dir, notes, precision)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    size = archive.stat().st_size
    print(f"{archive}: {size / 1e6:.1f} MB")
    if size > MAX_BYTES:
        print(f"note: over {MAX_BYTES // 10**6} MB, too large to be released in the repository", file=sys.stderr)


if __name__ == "__main__":
    main()
