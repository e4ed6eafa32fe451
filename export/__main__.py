"""`python -m export NAME`: make model_store/NAME.mar and its model card. No archive is written when a gate fails."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from export.card import fill_card
from export.errors import ExportError
from export.image_classifier import export_network, read_meta
from export.pack import pack
from export.spec import SPECS, known_names, read_model_spec
from handlers.errors import SpecError
from handlers.pool import Pool

MAX_BYTES = 20 * 10**6  # a released archive lives in the repository


def export(
    name: str,
    checkpoint: Path | None,
    data_dir: Path | None,
    pool: Path | None,
    output_dir: Path,
    version: str | None,
    data_note: str,
) -> Path:
    """Export one model and return its archive. Raises ExportError."""
    if version is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", version):
        raise ExportError(f"--version takes at most 64 letters, digits, '.', '_' and '-', not {version!r}")
    spec = read_model_spec(name)
    files: dict[str, Path] = {}
    metadata: dict[str, Any] = {"name": name, "task": spec.handler.get("task"), "source_commit": _source_commit()}
    example = SPECS / f"{name}.jpg"
    if "file" in spec.handler.get("example", {}):
        files[spec.handler["example"]["file"]] = example
    with tempfile.TemporaryDirectory(prefix="marserve-export-") as scratch:
        if "network" in spec.handler:
            if checkpoint is None:
                raise ExportError(f"{name} needs --checkpoint, as in --checkpoint models/best_model.pth")
            network = Path(scratch, "model.onnx")
            meta = read_meta(checkpoint)
            parity = export_network(checkpoint, meta, data_dir, example, network)
            print(f"parity with PyTorch: max |dp| {parity['max_difference']:.1e} on {parity['inputs']} images")
            size = meta["preprocessing"]["input_size"]
            spec.handler["labels"] = meta["classes"]
            spec.handler["network"]["input_shape"] = [size, size, 3]
            files[spec.handler["network"]["file"]] = network
            metadata |= {key: value for key, value in meta.items() if key != "history"}
            metadata["data"]["note"] = data_note
            metadata |= {"parity": parity, "exported_with": _versions("torch", "onnx", "onnxscript", "onnxruntime")}
            version = version or datetime.fromisoformat(meta["trained_at"]).strftime("%Y%m%d.%H%M")
        if "pool" in spec.handler:
            if pool is None:
                raise ExportError(f"{name} needs --pool: a folder made by `marserve pool build` or `make pool`")
            files[spec.handler["pool"]] = pool
            metadata["pool"] = _pool_record(pool)
        spec.handler_spec()
        metadata["version"] = version = version or "1.0"
        card = fill_card(SPECS / f"{name}.md", metadata)
        archive = output_dir / f"{name}.mar"
        try:
            pack(archive, name, version, spec.to_yaml(), metadata, card, files)
            archive.with_suffix(".md").write_text(card)
        except OSError as error:
            raise ExportError(f"cannot write {archive}: {error}") from error
    return archive


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
    parser.add_argument("--output_dir", type=Path, default=Path("model_store"), help="default: %(default)s")
    parser.add_argument("--version", help="default: date and time of the training")
    parser.add_argument("--data_note", default="Not stated.", help="for the model card: what the data is, its licence")
    args = parser.parse_args(argv)
    try:
        archive = export(
            args.name, args.checkpoint, args.data_dir, args.pool, args.output_dir, args.version, args.data_note
        )
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    size = archive.stat().st_size
    print(f"{archive}: {size / 1e6:.1f} MB")
    if size > MAX_BYTES:
        print(f"note: over {MAX_BYTES // 10**6} MB, too large to be released in the repository", file=sys.stderr)


if __name__ == "__main__":
    main()
