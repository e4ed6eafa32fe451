"""The results as tables on a terminal, and as NAME.json, NAME.md and NAME.png."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "savefig.dpi": 110,
}
_COLUMNS = ("server", "req/s", "spread", "p50 ms", "p99 ms", "to marserve", "errors", "wrong")
_SHOWN = 4  # columns of plots


def write_results(results: Mapping[str, Any], path: Path, command: str) -> list[Path]:
    """`path` is the JSON file; the table and the plot lie beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    page, picture = path.with_suffix(".md"), path.with_suffix(".png")
    plot(results).savefig(picture, bbox_inches="tight")
    page.write_text(markdown(results, command, picture.name))
    return [path, page, picture]


def print_tables(results: Mapping[str, Any], console: Console) -> None:
    for workload, servers in results["workloads"].items():
        table = Table(title=workload, title_justify="left")
        for column in _COLUMNS:
            table.add_column(column, justify="left" if column == "server" else "right")
        for row in _rows(servers):
            table.add_row(*row)
        console.print(table)


def markdown(results: Mapping[str, Any], command: str, picture: str) -> str:
    machine = results["machine"]
    lines = [
        f"# {Path(picture).stem}",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {machine['date']}, commit "
        f"`{machine['commit']}`. Made by:",
        "",
        f"    {command}",
        "",
        f"Medians of {machine['rounds']} interleaved rounds of {machine['seconds']:g} s, slowest and fastest "
        "beside. `limit` is no server: bare `session.run` loops with decoding. wrk shares the cores.",
        "Failed requests are not counted in req/s; `wrong` are checked answers that were not the right ones.",
        "",
        f"![requests per second]({picture})",
    ]
    for workload, servers in results["workloads"].items():
        lines += ["", f"## {workload}", "", "| " + " | ".join(_COLUMNS) + " |", "| --- |" + " ---: |" * 7]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in _rows(servers)]
    lines += ["", "## Start and memory", "", "| server | version | first answers after s | memory MB |"]
    lines.append("| --- | --- | ---: | ---: |")
    for name, server in results["servers"].items():
        if "start_s" in server:
            figures = f"{server['start_s']:.1f} | {server['memory_mb']:,.0f}"
            lines.append(f"| {name} | {machine['versions'].get(name, '')} | {figures} |")
        elif "error" in server:
            lines.append(f"| {name} | {machine['versions'].get(name, '')} | {server['error']} | |")
    lines += ["", "Proportional set size of all processes of a server after the load, all models of this run loaded."]
    return "\n".join(lines) + "\n"


def plot(results: Mapping[str, Any]) -> Figure:
    """Requests per second of every server, a small plot per workload: their scales differ a hundredfold."""
    workloads = results["workloads"]
    names = list(results["servers"])
    columns = min(_SHOWN, len(workloads))
    rows = -(-len(workloads) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.4 * columns, (1.0 + 0.28 * len(names)) * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axis, (workload, servers) in zip(axes.flat, workloads.items(), strict=False):
            rates = [servers[name].get("rps", 0) for name in names]
            colours = [{"marserve": "tab:orange", "limit": "lightgrey"}.get(name, "tab:blue") for name in names]
            axis.barh(names, rates, color=colours, height=0.7)
            for place, (name, rate) in enumerate(zip(names, rates, strict=True)):
                text = f" {rate:,.0f}" if rate else " failed" if "error" in servers[name] else ""
                axis.text(rate, place, text, va="center", fontsize=7)
            axis.set_title(f"{workload}, requests/s", fontsize=9)
            axis.set_xlim(0, 1.2 * max([*rates, 1]))
            axis.locator_params(axis="x", nbins=4)
            axis.tick_params(labelsize=8)
            axis.grid(visible=False, axis="y")
        for axis in list(axes.flat)[len(workloads) :]:
            axis.axis("off")
        axes.flat[0].invert_yaxis()
    return figure


def _rows(servers: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    ours = servers.get("marserve", {}).get("rps")
    rows: list[tuple[str, ...]] = []
    for name, found in servers.items():
        if "error" in found:
            rows.append((name, "failed", found["error"], "", "", "", "", ""))
            continue
        low, high = found["spread"]["rps"]
        note = " (wrk at its limit)" if found.get("saturated") else ""
        rows.append(
            (
                name,
                f"{found['rps']:,.0f}{note}",
                f"{low:,.0f}-{high:,.0f}",
                f"{found['p50_ms']:.2f}",
                f"{found['p99_ms']:.2f}",
                f"{found['rps'] / ours:.2f}" if ours else "",
                f"{found['errors']:,.0f}",
                f"{found['wrong']:,} of {found['checked']:,}" if "checked" in found else "",
            )
        )
    return rows
