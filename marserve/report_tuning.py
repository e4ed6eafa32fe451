"""A tuning for people: the frontier as a table and as a plot of characters, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.table import Table

from marserve.terminal import console, plain
from marserve.tune import Measurement, Point, Result, Settings, best_point, frontier
from marserve.tuning_machine import describe

WIDTH, HEIGHT = 64, 12  # characters of the plot
BUSY_GENERATOR = 0.9  # of a core

Pair = tuple[Settings, Point]


def measurements(result: Result) -> list[Measurement]:
    """One for each settings: the final's medians where there are any, short runs of the search otherwise."""
    finals = {one.settings: one for one in result.finals}
    return [finals.get(one.settings, one) for one in result.searched]


def final_point(result: Result, settings: Settings | None, slo_ms: float) -> Point | None:
    """The best load of these settings in the final."""
    return next((best_point(one, slo_ms) for one in result.finals if one.settings == settings), None)


def nearest(result: Result, slo_ms: float) -> Pair | None:
    """What comes nearest to the limit where nothing keeps it; of the final, where there was one."""
    points = [
        (one.settings, point)
        for one in result.finals or result.searched
        if not one.failure and (point := best_point(one, slo_ms))
    ]
    return min(points, key=lambda pair: pair[1].p99_ms, default=None)


def print_result(name: str, result: Result, slo_ms: float) -> None:
    out = console()
    found = measurements(result)
    best = frontier(found)
    out.print(f"{plain(name)}: the frontier of {len(found)} settings, p99 of at most {slo_ms:g} ms wanted")
    out.print(_table(result, best))
    for line in plot([(one.settings, point) for one in found for point in one.points], best, slo_ms):
        out.print(line)
    for one in found:
        if one.failure:
            out.print(f"disqualified: {describe(one.settings)}: {plain(one.failure)}")
    out.print(verdict(result, slo_ms))
    winner = final_point(result, result.winner, slo_ms)
    if winner and winner.generator_cpu > BUSY_GENERATOR:
        out.print("wrk itself kept a core busy: more throughput than this cannot be seen from here")


def verdict(result: Result, slo_ms: float) -> str:
    shipped = final_point(result, result.shipped, slo_ms)
    if result.interrupted and result.winner is None:
        return "interrupted before anything was measured twice: no winner"
    if result.winner is None:
        pair = nearest(result, slo_ms)
        if pair is None:
            return "no settings were served without errors"
        return f"nothing keeps p99 at {slo_ms:g} ms; nearest come {describe(pair[0])}: {figures(pair[1])}"
    winner = final_point(result, result.winner, slo_ms)
    if winner is None:
        raise ValueError("a winner is of the final")
    rounds = "one round" if result.rounds == 1 else f"medians of {result.rounds} rounds"
    if result.winner == result.shipped:
        return f"the shipped settings are the best, or within 3 % of it: {figures(winner)} ({rounds})"
    than = f"as shipped {figures(shipped)}" if shipped else "the shipped settings had errors"
    return f"best: {describe(result.winner)}: {figures(winner)}; {than} ({rounds})"


def figures(point: Point) -> str:
    return (
        f"{point.rps:,.0f} req/s at {point.connections} connections, "
        f"p50 {point.p50_ms:.1f} ms, p99 {point.p99_ms:.1f} ms"
    )


def plot(points: Sequence[Pair], best: Sequence[Pair], slo_ms: float) -> list[str]:
    """Throughput against p99 (logarithmic): `#` the frontier, `.` what others beat, `|` the limit."""
    if not points:
        return []
    times = [math.log(max(point.p99_ms, 0.01)) for _, point in points] + [math.log(slo_ms)]
    left, right, top = min(times), max(times), max(point.rps for _, point in points)
    cells: dict[tuple[int, int], str] = {}

    def column(milliseconds: float) -> int:
        return round((math.log(max(milliseconds, 0.01)) - left) / ((right - left) or 1) * (WIDTH - 1))

    for row in range(HEIGHT):
        cells[row, column(slo_ms)] = "|"
    for pairs, mark in ((points, "."), (best, "#")):
        for _, point in pairs:
            cells[round((1 - point.rps / top) * (HEIGHT - 1)), column(point.p99_ms)] = mark
    labels: Mapping[int, str] = {0: f"{top:,.0f} req/s", HEIGHT - 1: "0"}
    lines = [
        f"{labels.get(row, ''):>14} {''.join(cells.get((row, place), ' ') for place in range(WIDTH)).rstrip()}"
        for row in range(HEIGHT)
    ]
    ends = f"{math.exp(left):.1f} ms", f"p99 {math.exp(right):.1f} ms"
    return [*lines, " " * 15 + ends[0] + ends[1].rjust(WIDTH - len(ends[0]))]


def _table(result: Result, best: Sequence[Pair]) -> Table:
    network = result.shipped.threads is not None
    titles = ["", "workers", *(("threads", "chunk") if network else ()), "batch", "delay", "clients"]
    table = Table(*titles, "req/s", "p50 ms", "p99 ms", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for settings, point in best:
        mark = {result.shipped: "shipped", result.winner: "best"}.get(settings, "")
        cells = [settings.workers, *((settings.threads, settings.chunk) if network else ()), settings.batch]
        cells += [settings.delay, point.connections, f"{point.rps:,.0f}", f"{point.p50_ms:.1f}", f"{point.p99_ms:.1f}"]
        table.add_row(mark, *map(str, cells))
    return table
