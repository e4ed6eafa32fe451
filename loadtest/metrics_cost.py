"""What measuring costs a worker: its handler with metrics and without, in turn: `python -m loadtest.metrics_cost`."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from handlers import metrics
from handlers.archive import unpack
from handlers.entry import Handler
from handlers.pipeline import Reply
from loadtest.micro import as_columns, median_ms, request
from marserve.archive import read_archive
from marserve.terminal import console

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)  # torchserve leaves the file with its version open
    from ts.context import Context, RequestProcessor

ARCHIVE = Path("model_store/drag_pattern.mar")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.metrics_cost", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--points", type=int, default=200, help="of each movement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=300, help="default: %(default)s")
    args = parser.parse_args(argv)
    if not 8 <= args.points <= 5000 or args.rounds < 1:
        parser.error("--points takes 8 to 5000, --rounds 1 and more")
    if not ARCHIVE.is_file():
        parser.error(f"{ARCHIVE} does not exist: start it in the repository's folder")
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    table = Table(f"{ARCHIVE.stem}, {args.points} points, one core")
    for column in ("without ms", "with ms", "ratio", "measuring alone us"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory(prefix="marserve-metrics-") as scratch:
        bare, measured, context = load(Path(scratch))
        for name, headers in (("", {}), (" with X-Request-Start", {"X-Request-Start": f"t={time.time()}"})):
            for size in (1, 32):
                rows = [{"body": json.dumps(as_columns(request(i, args.points))).encode()} for i in range(size)]
                context.request_processor = [RequestProcessor(headers) for _ in rows]
                without, with_ = in_turn([bare, measured], rows, context, args.rounds)
                alone = measuring_alone(measured, context, args.rounds)
                figures = (f"{without * 1e3:.3f}", f"{with_ * 1e3:.3f}", f"{with_ / without:.3f}", f"{alone * 1e6:.0f}")
                table.add_row(f"a batch of {size}{name}", *figures)
    console().print(table)


def load(scratch: Path) -> tuple[Handler, Handler, Any]:
    """Two handlers of one archive, without metrics and with, and the context that both were loaded in."""
    archive = read_archive(ARCHIVE)
    unpack(ARCHIVE, scratch / "model")
    config = yaml.safe_load((scratch / "model" / "model-config.yaml").read_bytes())
    manifest = {"model": {"modelVersion": archive.version}}
    context = Context(archive.name, str(scratch / "model"), manifest, 32, None, "0.12.0", model_yaml_config=config)
    handlers = []
    for folder in (None, scratch / "metrics"):
        os.environ.pop(metrics.FOLDER, None)
        if folder:
            folder.mkdir()
            os.environ[metrics.FOLDER] = str(folder)  # before prometheus_client is imported: it looks at it then
        handler = Handler()
        handler.initialize(context)
        handlers.append(handler)
    return handlers[0], handlers[1], context


def in_turn(handlers: Sequence[Handler], rows: list[dict[str, Any]], context: Any, rounds: int) -> list[float]:
    """The median seconds of each; what else the machine does meets all of them alike."""
    times: list[list[float]] = [[] for _ in handlers]
    for _ in range(rounds):
        for handler, own in zip(handlers, times, strict=True):
            started = time.perf_counter()
            handler.handle(rows, context)
            own.append(time.perf_counter() - started)
    return [statistics.median(own) for own in times]


def measuring_alone(handler: Handler, context: Any, rounds: int) -> float:
    """The median seconds of what metrics add to a batch, whose replies are all alike."""
    headers = [processor.get_request_properties() for processor in context.request_processor]
    replies = [Reply(HTTPStatus.OK, b"")] * len(headers)
    return median_ms(lambda: handler.measure(replies, headers, time.time()), rounds) / 1000


if __name__ == "__main__":
    main()
