"""What measuring costs a busy worker, beside what its batches take: `python -m loadtest.metrics_cost`."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from handlers import metrics
from handlers.archive import unpack
from handlers.entry import Handler
from handlers.reply import Reply
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
    for column in ("batch us", "metrics us", "share"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory(prefix="marserve-metrics-") as scratch:
        bare, measured, context = load(Path(scratch))
        for name, headers in (("", {}), (" with X-Request-Start", {"X-Request-Start": f"t={time.time()}"})):
            for size in (1, 32):
                rows = [{"body": json.dumps(as_columns(request(i, args.points))).encode()} for i in range(size)]
                context.request_processor = [RequestProcessor(headers) for _ in rows]
                batch = median_ms(partial(bare.handle, rows, context), args.rounds) / 1000
                cost = measuring(measured, context, round(metrics.WRITING / batch) + 1, args.rounds)
                table.add_row(
                    f"a batch of {size}{name}", f"{batch * 1e6:.0f}", f"{cost * 1e6:.1f}", f"{cost / batch:.2%}"
                )
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


def measuring(handler: Handler, context: Any, batches: int, rounds: int) -> float:
    """The median seconds of a batch's share in noting that many, as come between two writes, and writing them."""
    headers = [processor.get_request_properties() for processor in context.request_processor]
    replies = [Reply(HTTPStatus.OK, b"")] * len(headers)
    return median_ms(partial(_note_and_write, handler, replies, headers, batches), rounds) / 1000 / batches


def _note_and_write(handler: Handler, replies: list[Reply], headers: list[dict[str, Any]], batches: int) -> None:
    for _ in range(batches):
        handler.measure(replies, headers, time.time())
    if handler.metrics:
        handler.metrics.write()


if __name__ == "__main__":
    main()
