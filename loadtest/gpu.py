"""How fast an image model is on a GPU: network alone, with decoding, through a server: `python -m loadtest.gpu`.

One run on one machine, so that its ratios mean something. Exit code 2: nothing was measured, without CUDA for one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import yaml
from rich.table import Table

from handlers import archive as archive_file
from handlers.network import Network
from handlers.pipeline import Pipeline
from handlers.runner import powers_of_two
from handlers.spec import HandlerSpec, NetworkSpec, read_spec
from loadtest.errors import exit_code
from marserve import wrk
from marserve.archive import read_archive
from marserve.errors import MarserveError
from marserve.photos import TASK
from marserve.terminal import console

CONFIG = "model-config.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return exit_code(lambda: measure(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.gpu", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("archive", nargs="?", type=Path, default=Path("model_store/captcha_image.mar"))
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cuda", help="default: %(default)s")
    parser.add_argument("--batch", type=_whole, default=64, help="the largest; default: %(default)s")
    parser.add_argument(
        "--threads", type=_whole, default=len(os.sched_getaffinity(0)), help="that decode; default: all"
    )
    parser.add_argument("--workers", type=_whole, default=1, help="of the server; default: %(default)s")
    parser.add_argument("--connections", type=_whole, default=256, help="to the server; default: %(default)s")
    parser.add_argument("--seconds", type=_whole, default=10, help="of each measurement; default: %(default)s")
    parser.add_argument("--port", type=_whole, default=18180, help="of the server; default: %(default)s")
    return parser


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, not {text!r}")
    return int(text)


def measure(args: argparse.Namespace) -> int:
    """Print every figure as soon as it is there; 0. Raises MarserveError, SpecError."""
    if args.provider == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise MarserveError("this onnxruntime has no CUDA: run it from the GPU environment (make serve GPU=1)")
    archive = read_archive(args.archive)
    body, headers = archive.example_request()
    with tempfile.TemporaryDirectory(prefix="marserve-gpu-") as scratch:
        folder, store = Path(scratch, "model"), Path(scratch, "store")
        archive_file.unpack(args.archive, folder)
        _write_settings(folder, args)
        spec = read_spec(yaml.safe_load((folder / CONFIG).read_bytes()))
        if spec.task != TASK or spec.network is None:
            raise MarserveError(f"{args.archive} is for {spec.task}; what is wanted here is {TASK}")
        alone = _network_alone(folder, spec.network, args)
        decoding = _with_decoding(folder, spec, body, args, alone)
        _pack(folder, store)
        with _serving(store, args.port) as url:
            request = wrk.Request(f"/predictions/{archive.name}", body, headers)
            figures = wrk.run(url, [request], args.connections, args.seconds)
    table = Table(f"REST, {args.connections} connections, {args.workers} worker(s)", "", title_justify="left")
    table.add_row("requests per second", f"{figures.rps:,.0f}")
    table.add_row("of the rate with decoding, in the process", f"{figures.rps / decoding:.2f}")
    table.add_row("p50, p99 (ms)", f"{figures.p50_ms:,.1f}, {figures.p99_ms:,.1f}")
    table.add_row("errors", f"{figures.errors:,}")
    table.add_row("of one core, wrk (near 1 it is the limit)", f"{figures.generator_cpu:.2f}")
    console().print(table)
    return 0


def _network_alone(folder: Path, spec: NetworkSpec, args: argparse.Namespace) -> float:
    """Items per second at the best batch; a row for each size, and how far the device is from the CPU's answers."""
    network, reference = Network(folder, spec), Network(folder, replace(spec, provider="cpu"))
    random = np.random.default_rng(0)
    items = [random.integers(0, 256, spec.input_shape).astype(spec.input_type) for _ in range(args.batch)]
    rates: list[float] = []
    table = Table("network alone: batch", "median ms", "items/s", "of batch 1")
    for size in powers_of_two(args.batch):
        rate, milliseconds = _rate(lambda size=size: network.run(items[:size]), size, args.seconds)  # type: ignore[misc]
        rates.append(rate)
        table.add_row(str(size), f"{milliseconds:.2f}", f"{rate:,.0f}", f"{rate / rates[0]:.2f}")
    console().print(f"{network.provider}, {args.threads} thread(s) of {os.cpu_count()}")
    console().print(table)
    apart = max(
        float(np.abs(got[name] - expected[name]).max())
        for item, got in zip(items, network.run(items), strict=True)
        for expected in reference.run([item])
        for name in spec.outputs
    )
    console().print(f"largest difference from onnxruntime's CPU provider, {len(items)} random images: {apart:.2g}")
    return max(rates)


def _with_decoding(folder: Path, spec: HandlerSpec, body: bytes, args: argparse.Namespace, alone: float) -> float:
    """Requests per second with all threads: decode, run and encode, as a worker does."""
    table = Table("in the process: decoding threads", "requests/s", "of the network's best")
    rows = [{"body": body}] * args.batch
    for threads in sorted({1, args.threads}):
        pipeline = Pipeline.load(folder, replace(spec, decode_threads=threads))
        if failed := [reply.body for reply in pipeline(rows) if reply.status != 200]:
            raise MarserveError(f"the model does not answer its own example: {failed[0].decode()}")
        rate, _ = _rate(lambda pipeline=pipeline: pipeline(rows), args.batch, args.seconds)  # type: ignore[misc]
        table.add_row(str(threads), f"{rate:,.0f}", f"{rate / alone:.2f}")
    console().print(table)
    return rate


def _rate(step: Callable[[], Any], items: int, seconds: float) -> tuple[float, float]:
    """Items per second, each call having so many, and the median milliseconds of a call."""
    step()
    times: list[float] = []
    started = time.perf_counter()
    while not times or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        step()
        times.append(time.perf_counter() - before)
    return items * len(times) / sum(times), 1000 * statistics.median(times)


def _write_settings(folder: Path, args: argparse.Namespace) -> None:
    """The unpacked archive's own, but for what is measured here."""
    config = yaml.safe_load((folder / CONFIG).read_bytes())
    config |= {"minWorkers": args.workers, "maxWorkers": args.workers, "batchSize": args.batch}
    config["handler"]["decode_threads"] = args.threads
    if network := config["handler"].get("network"):
        network |= {"provider": args.provider, "batch_sizes": powers_of_two(args.batch)}
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))


def _pack(folder: Path, store: Path) -> None:
    """An archive of the folder, with these handlers in the place of those it came with."""
    source = Path(archive_file.__file__).parent
    shutil.rmtree(folder / "handlers")
    shutil.copytree(source, folder / "handlers", ignore=shutil.ignore_patterns("__pycache__", "entry.py"))
    shutil.copyfile(source / "entry.py", folder / "entry.py")
    (folder / archive_file.DIGESTS).unlink()
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    digests = {name: archive_file.file_digest(path) for name, path in files.items()}
    store.mkdir()
    with zipfile.ZipFile(store / "measured.mar", "w") as archive:
        for name, path in files.items():
            archive.write(path, name)
        archive.writestr(archive_file.DIGESTS, json.dumps(digests))


@contextmanager
def _serving(store: Path, port: int) -> Iterator[str]:
    """`marserve serve` on that store, stopped at the end. Raises MarserveError where it does not start."""
    marserve = [sys.executable, "-m", "marserve"]
    command = [*marserve, "serve", "--detach", "--model-store", str(store), "--port", str(port)]
    started = subprocess.run(command, capture_output=True, text=True, check=False)
    if started.returncode:
        raise MarserveError(f"the server did not start: {started.stderr.strip()}")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        subprocess.run([*marserve, "stop", "--port", str(port)], capture_output=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
