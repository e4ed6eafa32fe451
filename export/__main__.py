"""`python -m export NAME`: make model_store/NAME.mar and its model card. No archive is written when a gate fails."""

from __future__ import annotations

import argparse
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

from export.behaviour import export_forest
from export.card import fill_card
from export.errors import ExportError
from export.evaluation import read_evaluation
from export.image_classifier import export_classifier
from export.pack import pack
from export.repack import unpack
from export.spec import SPECS, ModelSpec, known_names, read_model_spec
from handlers.errors import SpecError
from handlers.pool import Pool

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


def export(name: str, sources: Sources, output_dir: Path, notes: Notes) -> Path:
    """Export one model and return its archive. Raises ExportError."""
    version = notes.version
    if version is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", version):
        raise ExportError(f"--version takes at most 64 letters, digits, '.', '_' and '-', not {version!r}")
    spec = read_model_spec(name)
    with tempfile.TemporaryDirectory(prefix="marserve-export-") as scratch:
        if sources.archive is not None:
            metadata, files = _from_archive(spec, sources.archive, Path(scratch))
        else:
            metadata, files = _from_parts(name, spec, sources, Path(scratch))
        if "data" in metadata:
            metadata["data"]["note"] = notes.data_note or metadata["data"].get("note") or "Not stated."
        metadata["version"] = version = version or metadata.get("version") or _default_version(metadata)
        metadata |= {"name": name, "task": spec.handler.get("task"), "source_commit": _source_commit()}
        for part, file in notes.evaluation.items():
            metadata.setdefault("evaluation", {})[part] = read_evaluation(file, name, version)
        if "file" in spec.handler.get("example", {}):
            files[spec.handler["example"]["file"]] = _example(name, spec)
        spec.handler_spec()
        card = fill_card(SPECS / f"{name}.md", metadata | {"handler": spec.handler})
        archive = output_dir / f"{name}.mar"
        try:
            pack(archive, name, version, spec.to_yaml(), metadata, card, files)
            archive.with_suffix(".md").write_text(card)
        except OSError as error:
            raise ExportError(f"cannot write {archive}: {error}") from error
    return archive


Parts = tuple[dict[str, Any], dict[str, Path]]  # the archive's metadata, and its files by their place inside


def _from_parts(name: str, spec: ModelSpec, sources: Sources, scratch: Path) -> Parts:
    """From a checkpoint, a pool, or both; completes the spec with what the training decided."""
    metadata: dict[str, Any] = {}
    files: dict[str, Path] = {}
    if "network" in spec.handler:
        if sources.checkpoint is None:
            raise ExportError(f"{name} needs --checkpoint, as in --checkpoint models/best_model.pth")
        network = scratch / "model.onnx"
        files[spec.handler["network"]["file"]] = network
        if spec.handler["task"] == "image_classification":
            example = _example(name, spec)
            metadata |= export_classifier(sources.checkpoint, spec.handler, sources.data_dir, example, network)
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
    return metadata, files


def _from_archive(spec: ModelSpec, archive: Path, scratch: Path) -> Parts:
    """Network, pool and records of an archive, which its digests vouch for; today's spec, card and handlers."""
    metadata, handler = unpack(archive, scratch)
    files: dict[str, Path] = {}
    if "network" in spec.handler and "network" in handler:
        trained = ("labels", "features", "reference", "scaling", "threshold")
        spec.handler |= {key: handler[key] for key in trained if key in handler}
        spec.handler["network"]["input_shape"] = handler["network"]["input_shape"]
        files[spec.handler["network"]["file"]] = scratch / handler["network"]["file"]
    if "pool" in spec.handler and "pool" in handler:
        files[spec.handler["pool"]] = scratch / handler["pool"]
    if len(files) < ("network" in spec.handler) + ("pool" in spec.handler):
        raise ExportError(f"{archive} is of another kind of model: it lacks what the spec asks for")
    return metadata, files


def _example(name: str, spec: ModelSpec) -> Path:
    """Beside the spec, with its name."""
    return SPECS / f"{name}{Path(spec.handler['example']['file']).suffix}"


def _default_version(metadata: dict[str, Any]) -> str:
    trained_at = metadata.get("trained_at")
    return datetime.fromisoformat(trained_at).strftime("%Y%m%d.%H%M") if trained_at else "1.0"


def _pool_record(folder: Path) -> dict[str, Any]:
    try:
        loaded = Pool(folder)
    except SpecError as error:
        raise ExportError(str(error)) from error
    counts = loaded.counts
    return {"images": sum(counts.values()), "groups": counts, "attribution": loaded.attribution}


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
    args = parser.parse_args(argv)
    evaluation = dict(part.partition("=")[::2] for part in args.evaluation)
    if not all(re.fullmatch(r"\w{1,64}", part) and file for part, file in evaluation.items()):
        parser.error("--evaluation takes PART=FILE, where PART has letters, digits and '_' only")
    if args.archive and (args.checkpoint or args.pool or args.data_dir):
        parser.error("--archive goes without --checkpoint, --pool and --data_dir")
    notes = Notes(args.version, args.data_note, {part: Path(file) for part, file in evaluation.items()})
    sources = Sources(args.checkpoint, args.data_dir, args.pool, args.archive)
    try:
        archive = export(args.name, sources, args.output_dir, notes)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    size = archive.stat().st_size
    print(f"{archive}: {size / 1e6:.1f} MB")
    if size > MAX_BYTES:
        print(f"note: over {MAX_BYTES // 10**6} MB, too large to be released in the repository", file=sys.stderr)


if __name__ == "__main__":
    main()
