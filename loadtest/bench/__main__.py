"""`python -m loadtest.bench`: the same models on marserve and on other servers, one after the other, in rounds.

Exit code 0: measured (a server that failed is part of the results); 2: nothing could be measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest.bench.limit import limit
from loadtest.bench.measure import Visit, visit
from loadtest.bench.report import print_tables, write_results
from loadtest.bench.servers import LIMIT, SERVERS
from loadtest.bench.store import ROOT, Store, make_store
from loadtest.bench.summary import rotated, summarize
from loadtest.bench.workloads import CONNECTIONS, Workload, build_workloads, models_of
from loadtest.errors import LoadTestError, exit_code
from marserve.terminal import console

NAMES = (*SERVERS, LIMIT)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LoadTestError(f"{message} (`{self.prog} --help` lists the arguments)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m loadtest.bench", description="Compare marserve with other servers.")
    parser.add_argument("--servers", nargs="+", choices=NAMES, default=list(NAMES), help="default: all", metavar="NAME")
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=list(CONNECTIONS),
        default=list(CONNECTIONS),
        help="default: all",
        metavar="NAME",
    )
    parser.add_argument("--rounds", type=_count, default=3, help="of all servers; default: %(default)s")
    parser.add_argument("--seconds", type=_count, default=10, help="of every measurement; default: %(default)s")
    parser.add_argument("--name", type=_name, default=f"cpu-{os.cpu_count()}-cores", help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="the JSON file; default: docs/benchmarks/NAME.json")
    return parser


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the results as they are written. Raises LoadTestError, MarserveError, SpecError."""
    servers, names = list(dict.fromkeys(args.servers)), list(dict.fromkeys(args.workloads))
    with tempfile.TemporaryDirectory(prefix="bench-store-") as folder:
        console().print("archives ...")
        store = make_store(models_of(names), Path(folder))
        visits = _rounds(servers, store, build_workloads(names, store.models), args)
    return {
        "machine": _machine(servers, args),
        "workloads": {name: {server: _figures(visits[server], name) for server in servers} for name in names},
        "servers": {server: _server(visits[server]) for server in servers},
    }


def _rounds(
    servers: Sequence[str], store: Store, workloads: Sequence[Workload], args: argparse.Namespace
) -> dict[str, list[Visit]]:
    """One server at a time, each once in every round."""
    visits: dict[str, list[Visit]] = {name: [] for name in servers}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console()) as progress:
        task = progress.add_task("", total=args.rounds * len(servers) * len(workloads))
        for number in range(args.rounds):
            for place, server in enumerate(rotated(servers, number)):
                label = f"round {number + 1}, {server}"
                progress.update(task, description=f"{label}: start")

                def done(workload: str, label: str = label) -> None:
                    progress.update(task, advance=1, description=f"{label}: {workload} is over")

                if server == LIMIT:
                    found = _limit(store, workloads, args.seconds, done)
                else:
                    found = visit(SERVERS[server], store, workloads, args.seconds, done)
                visits[server].append(found)
                # A server that did not start has skipped its workloads.
                progress.update(task, completed=(number * len(servers) + place + 1) * len(workloads))
                progress.print(f"{label}: {_line(found)}")
    return visits


def _line(found: Visit) -> str:
    """For those who watch, or read a log: requests per second, and what went wrong."""
    rates = [f"{workload} {figures['rps']:,.0f}/s" for workload, figures in found.figures.items()]
    return ", ".join(rates + [f"{where} {said}".strip() for where, said in found.errors.items()])


def _limit(store: Store, workloads: Sequence[Workload], seconds: float, done: Callable[[str], None]) -> Visit:
    figures = {}
    for workload in workloads:
        figures[workload.name] = limit(workload, store.models, seconds)
        done(workload.name)
    return Visit(figures=figures)


def _figures(visits: Sequence[Visit], workload: str) -> dict[str, Any]:
    """An error only where no round gave figures; where some failed, beside the figures of the others."""
    samples = [visit.figures[workload] for visit in visits if workload in visit.figures]
    said = [error for visit in visits if (error := visit.errors.get(workload) or visit.errors.get(""))]
    if not samples:
        return {"error": said[0] if said else "was not measured"}
    return summarize(samples) | ({"failed_rounds": len(said), "first_failure": said[0]} if said else {})


def _server(visits: Sequence[Visit]) -> dict[str, Any]:
    said = [visit.errors[""] for visit in visits if "" in visit.errors]
    found: dict[str, Any] = {"error": said[0]} if said else {}
    started = [visit for visit in visits if visit.start_s is not None and visit.memory_mb is not None]
    if started:
        found["start_s"] = round(statistics.median(visit.start_s or 0 for visit in started), 2)
        found["memory_mb"] = round(statistics.median(visit.memory_mb or 0 for visit in started), 1)
    if workers := [visit.largest_worker_mb for visit in started if visit.largest_worker_mb]:
        found["largest_worker_rss_mb"] = {
            name: round(max(one.get(name, 0) for one in workers), 1) for name in workers[0]
        }
    return found


def _machine(servers: Sequence[str], args: argparse.Namespace) -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: SERVERS[name].version() for name in servers if name != LIMIT},
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "rounds": args.rounds,
        "seconds": args.seconds,
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--exclude=*", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1 to 3600, not {text!r}")
    return int(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise argparse.ArgumentTypeError(f"takes letters, digits, '.', '_' and '-', not {text!r}")
    return text


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # every server is stopped on the way out
    return exit_code(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    command = shlex.join(["python", "-m", "loadtest.bench", *argv])
    results = bench(args)
    print_tables(results, console())
    path = args.output or ROOT / "docs" / "benchmarks" / f"{args.name}.json"
    try:
        written = write_results(results, path, command)
    except OSError as error:
        raise LoadTestError(f"cannot write the results: {error}") from None
    for one in written:
        print(one)
    return 0


if __name__ == "__main__":
    sys.exit(main())
