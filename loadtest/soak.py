"""Ten minutes of mixed load at 80 % of what the server can do: does memory grow, do replies get slower?

    python -m loadtest.soak

Exit code 0: within the limits; 1: memory grew by 2 % or more, the last minute's p99 is over 1.2 times the first's, or a
reply was an error; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.progress import track
from rich.table import Table

from loadtest.bench.processes import Tree, free_port
from loadtest.bench.workers import workers
from loadtest.errors import LoadTestError, exit_code
from loadtest.reliability.stack import wait_until_ready
from marserve import wrk
from marserve.archive import find_archives
from marserve.rundir import RunDir
from marserve.terminal import console

MODELS = ("captcha_image", "drag_pattern", "ticket_slice")
JAVA, REST = "java", "rest"  # what is no model's worker
CONNECTIONS = 16
SHARE = 0.8  # of the requests per second that the server can do
WARM_UP = 30.0  # seconds; a JVM has compiled by then what it runs often
MOST_GROWTH, MOST_SLOWDOWN = 0.02, 1.2


@dataclass(frozen=True, slots=True)
class Stretch:
    """One of the soak's parts, of equal length."""

    rps: float
    p50_ms: float
    p99_ms: float
    errors: int
    memory_mb: Mapping[str, float]  # at its end: proportional set sizes of each model's workers, Java, and the rest


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="0.1 to 600; default: 10")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    capacity, stretches = soak(args.model_store, args.models, args.minutes)
    broken = judge(stretches)
    console().print(_table(capacity, stretches))
    first, last = stretches[0].memory_mb, stretches[-1].memory_mb
    print("memory MB: " + ", ".join(f"{name} {first[name]:.1f} -> {last[name]:.1f}" for name in first))
    for line in broken:
        print(f"over the limit: {line}", file=sys.stderr)
    if args.output:
        figures: dict[str, Any] = {"capacity_rps": capacity, "stretches": [asdict(one) for one in stretches]}
        try:
            args.output.write_text(json.dumps(figures | {"broken": broken}, indent=1) + "\n")
        except OSError as error:
            raise LoadTestError(f"cannot write the figures: {error}") from None
    return 1 if broken else 0


def soak(model_store: Path, models: Sequence[str], minutes: float) -> tuple[float, list[Stretch]]:
    """The server's capacity in requests per second, and ten stretches at SHARE of it. Raises MarserveError."""
    requests = []
    for archive in find_archives(model_store, list(models)):
        body, headers = archive.example_request()
        requests.append(wrk.Request(f"/predictions/{archive.name}", body, headers))
    port, seconds = free_port(), minutes * 6
    command = [sys.executable, "-P", "-m", "marserve", "serve", "--model-store", str(model_store.resolve())]
    command += ["--config", str(Path("config.properties").resolve()), "--port", str(port), "--no-overrides"]
    command += [word for name in models for word in ("--models", name)]
    url = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as scratch,
        Tree(command, {"XDG_STATE_HOME": scratch}, Path(scratch), Path(scratch, "log.txt")) as tree,
    ):
        wait_until_ready(tree, RunDir(port))
        wrk.run(url, requests, CONNECTIONS, min(WARM_UP, 10 * seconds))
        capacity = wrk.run(url, requests, CONNECTIONS, min(10.0, seconds)).rps
        pause = cycle = 1000 * CONNECTIONS / (SHARE * capacity)  # ms from one request of a user to the next
        stretches = []
        # How long a request takes at that rate is not known before, and changes: each run sets the next one's pause.
        for length in track([min(5.0, seconds)] * 2 + [seconds] * 10, "soaking", console=console(), transient=True):
            found = wrk.run(url, requests, CONNECTIONS, length, max(1, round(pause)))
            memory = _memory(tree, f"http://127.0.0.1:{port + 1}", models)
            stretches.append(Stretch(found.rps, found.p50_ms, found.p99_ms, found.errors, memory))
            pause += cycle - 1000 * CONNECTIONS / found.rps
    return capacity, stretches[2:]


def judge(stretches: Sequence[Stretch]) -> list[str]:
    """Every limit that is broken, in words."""
    first, last = stretches[0], stretches[-1]
    growth = sum(last.memory_mb.values()) / sum(first.memory_mb.values()) - 1
    slowdown = last.p99_ms / first.p99_ms
    broken = []
    if growth >= MOST_GROWTH:
        broken.append(f"memory grew by {100 * growth:.1f} %; less than {100 * MOST_GROWTH:.0f} % is allowed")
    if slowdown > MOST_SLOWDOWN:
        broken.append(f"the last p99 is {slowdown:.2f} times the first; {MOST_SLOWDOWN} is allowed")
    if errors := sum(one.errors for one in stretches):
        broken.append(f"{errors:,} requests had no good reply")
    return broken


def _memory(tree: Tree, management: str, models: Sequence[str]) -> dict[str, float]:
    owners = workers(management, models)
    sizes = dict.fromkeys((*models, JAVA, REST), 0.0)
    for pid, size in tree.memory_by_process().items():
        with suppress(psutil.Error):
            sizes[owners.get(pid) or (JAVA if psutil.Process(pid).name() == JAVA else REST)] += size
    return sizes


def _table(capacity: float, stretches: Sequence[Stretch]) -> Table:
    table = Table(title=f"{SHARE:.0%} of {capacity:,.0f} requests/s, {CONNECTIONS} connections", title_justify="left")
    for name in ("part", "req/s", "p50 ms", "p99 ms", "errors", "memory MB"):
        table.add_column(name, justify="right")
    for number, one in enumerate(stretches, 1):
        memory = f"{sum(one.memory_mb.values()):,.1f}"
        row = (f"{one.rps:,.0f}", f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}", f"{one.errors:,}", memory)
        table.add_row(str(number), *row)
    return table


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.1 <= value <= 600:
        raise argparse.ArgumentTypeError(f"takes 0.1 to 600, not {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
