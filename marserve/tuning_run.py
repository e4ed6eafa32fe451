"""`marserve tune`: search, progress, what is printed, and the overrides that it leaves."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from marserve.archive import Archive, find_archives
from marserve.durations import seconds
from marserve.errors import MarserveError
from marserve.overrides import SUFFIX, write_overrides
from marserve.report_tuning import final_point, measurements, nearest, print_result, verdict
from marserve.settings import read_properties
from marserve.terminal import plain
from marserve.trust import admission
from marserve.tune import Result, frontier, tune
from marserve.tuning_machine import Machine, cores, overrides_of, read_requests, shipped_settings

INTERRUPTED = 130  # exit code, as a shell has it for Ctrl-C
_MOST_SLO, _LEAST_BUDGET, _MOST_BUDGET = 30.0, 10.0, 86400.0  # seconds; wrk waits 30 for a reply


@dataclass(frozen=True, slots=True)
class Options:
    name: str
    slo: str
    samples: Path | None
    model_store: Path
    config: Path
    budget: str
    write: bool
    output: Path | None  # folder of the overrides; None: the model store
    as_json: bool


def run(options: Options) -> int:
    """Tune one model and print what was found; the exit code. Raises MarserveError."""
    slo_ms = 1000 * seconds(options.slo, "--slo-p99", 0.001, _MOST_SLO)
    budget = seconds(options.budget, "--budget", _LEAST_BUDGET, _MOST_BUDGET)
    properties = read_properties(options.config)
    admit = partial(admission.admit, trusted=admission.required(properties, options.config))
    archive = find_archives(options.model_store, [options.name], admit)[0]
    folder = options.output or options.model_store
    if options.write and not os.access(folder, os.W_OK | os.X_OK):
        raise MarserveError(f"cannot write to {folder}: name another folder with --output")
    requests = read_requests(archive, options.samples)
    shipped = shipped_settings(archive)
    err = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if shipped.threads is None and archive.handler.get("network"):
        err.print(f"{archive.path} holds handlers older than overrides: threads and chunk stay as shipped")
    started = time.monotonic()
    with _progress(err) as progress:
        bar = progress.add_task("", total=budget)

        def tell(what: str) -> None:
            progress.update(bar, description=what, completed=time.monotonic() - started)

        with closing(Machine(archive, requests, properties, slo_ms, tell)) as machine:
            result = tune(shipped, cores(), slo_ms, budget, machine.measure)
    took = time.monotonic() - started
    if not options.as_json:
        print_result(archive.name, result, slo_ms)
    written = _write(options, archive, result, slo_ms, folder) if options.write and not result.interrupted else None
    if options.as_json:
        print(json.dumps(_as_json(archive, result, slo_ms, took, written)))
    elif written:
        print(f"written to {written}; `marserve serve` uses it from now on")
    if result.interrupted:
        return INTERRUPTED
    return 0 if result.winner else 1


def _write(options: Options, archive: Archive, result: Result, slo_ms: float, folder: Path) -> Path | None:
    """The overrides' path, once written; None where there is no winner, or nothing to override."""
    path = folder / f"{archive.name}{SUFFIX}"
    if result.winner is None:
        return None
    overrides = overrides_of(result.winner, archive, path)
    if not overrides and not path.exists():
        return None
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    write_overrides(
        overrides,
        [
            f"`marserve tune {archive.name} --slo-p99 {options.slo} --budget {options.budget} --write`",
            f"version {archive.version}, {now} on {plain(platform.node())}: {cores()} cores of {_processor()}",
            verdict(result, slo_ms),
        ],
    )
    return path


def _as_json(archive: Archive, result: Result, slo_ms: float, took: float, written: Path | None) -> dict[str, object]:
    close = nearest(result, slo_ms)
    winner = final_point(result, result.winner, slo_ms)
    return {
        "model": archive.name,
        "version": archive.version,
        "slo_p99_ms": slo_ms,
        "cores": cores(),
        "seconds": round(took, 1),
        "interrupted": result.interrupted,
        "shipped": asdict(result.shipped),
        "winner": asdict(result.winner) if result.winner else None,
        "winner_point": asdict(winner) if winner else None,
        "nearest": {**asdict(close[0]), **asdict(close[1])} if close and not result.winner else None,
        "rounds": result.rounds,
        "finals": [asdict(one) for one in result.finals],
        "frontier": [{**asdict(settings), **asdict(point)} for settings, point in frontier(measurements(result))],
        "searched": [asdict(one) for one in result.searched],
        "written": str(written) if written else None,
    }


def _progress(err: Console) -> Progress:
    """On a terminal only, and gone at the end."""
    return Progress(
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def _processor() -> str:
    """Its name as Linux has it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return plain(found[1]) if found else platform.machine()
