"""A shadow's report: report.json with every figure, report.md for people, and plots. Nothing of a request is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from marserve.errors import MarserveError
from marserve.shadow import plots
from marserve.shadow.comparison import EXAMPLES, VERDICTS, Comparison, at_most
from marserve.shadow.outcome import Options, Outcome
from marserve.shadow.series import Summary
from marserve.terminal import plain

Costs = tuple[float | None, float | None]  # seconds of processor time per request, of the old version and the new

_ROWS = 20  # of a table for people
_NOTES = {
    "agrees": "",
    "label": "another label",
    "text": "no label, and another text or truth value",
    "shape": "lacks something that the old answer has",
    "status": "another HTTP status",
    "no answer": "none in time, or a broken connection",
}


def write(outcome: Outcome, options: Options, comparison: Comparison, costs: Costs) -> None:
    """Into the outcome's folder. Raises MarserveError."""
    found = figures(outcome, options, comparison, costs)
    folder = outcome.report
    try:
        (folder / "report.json").write_text(json.dumps(found, indent=1) + "\n")
        pictures = []
        if comparison.compared:
            plots.latency(comparison.old_seconds, comparison.new_seconds, _names(outcome), folder / "latency.svg")
            pictures.append("latency.svg")
        if comparison.drifts:
            plots.drift(comparison.drifts, folder / "drift.svg")
            pictures.append("drift.svg")
        (folder / "report.md").write_text(markdown(found, pictures))
    except OSError as error:
        raise MarserveError(f"{outcome.verdict}; cannot write its report to {folder}: {error.strerror}") from None


def figures(outcome: Outcome, options: Options, comparison: Comparison, costs: Costs) -> dict[str, Any]:
    """What report.json holds; times in seconds."""
    told = {key: value for key, value in asdict(outcome).items() if key != "report"}
    return {
        **told,
        "disagreement": outcome.disagreement,
        "disagreement_at_most": at_most(outcome.disagreements, outcome.compared),  # with 95 % confidence
        "options": {
            "sample": options.sample,
            "max_disagreement": options.max_disagreement,
            "at_once": options.at_once,
            "limit": options.limit,
        },
        "verdicts": {verdict: comparison.verdicts[verdict] for verdict in VERDICTS},
        "by_shape": comparison.by_shape,
        "statuses": [[old, new, count] for (old, new), count in comparison.statuses.most_common()],
        "labels": [[old, new, count] for (old, new), count in comparison.labels.most_common()],
        "drift": {path: _summary(series.summary()) for path, series in sorted(comparison.drifts.items())},
        "latency": {
            "old_in_worker": _summary(comparison.old_seconds.summary()),
            "new_from_outside": _summary(comparison.new_seconds.summary()),
        },
        "processor_seconds_per_request": dict(zip(("old", "new"), costs, strict=True)),
        "examples": [asdict(example) for example in comparison.examples],
    }


def markdown(found: Mapping[str, Any], pictures: list[str]) -> str:
    old, new = (_cell(found[name]) for name in ("old", "new"))
    lines = [
        f"# {_cell(found['model'])}: {new} in the shadow of {old}",
        "",
        f"**{'agreed' if found['agreed'] else 'not agreed'}**: {_cell(found['verdict'])}.",
        "",
        f"{found['seconds']:.0f} s, {found['seen']:,} requests, {found['sampled']:,} of them to be compared "
        f"(`--sample {found['options']['sample']:.0%}`), {found['dropped']:,} of these not: they came faster than the "
        f"candidate answered. At most {found['disagreement_at_most']:.2%} of such requests differ (95 % confidence).",
        "",
        *_table(("answers", "count", ""), ((key, f"{found['verdicts'][key]:,}", _NOTES[key]) for key in VERDICTS)),
    ]
    if found["by_shape"]:
        lines += [
            "",
            f"Of {found['by_shape']:,} answers only status and shape were compared: they are no JSON, or hold content "
            "(an image, a challenge) that is made anew for each request.",
        ]
    lines += _latency(found, old, new)
    differing = [row for row in found["statuses"] if row[0] != row[1]]
    if differing:
        lines += ["", "## Statuses that differ", "", *_table((old, new, "count"), differing[:_ROWS])]
    if found["labels"]:
        changed = [row for row in found["labels"] if row[0] != row[1]]
        same = sum(row[2] for row in found["labels"]) - sum(row[2] for row in changed)
        lines += ["", "## Labels", "", f"The same {same:,} times."]
        lines += ["", *_table((old, new, "count"), changed[:_ROWS])] if changed else []
    if found["drift"]:
        rows = sorted(found["drift"].items(), key=lambda row: -row[1]["mean"])[:_ROWS]
        cells = [
            (path, f"{drift['count']:,}", *(f"{drift[key]:.2g}" for key in ("mean", "p50", "p95", "max")))
            for path, drift in rows
        ]
        lines += ["", "## Numbers", "", "Absolute difference of the two answers to a request.", ""]
        lines += _table(("number", "count", "mean", "p50", "p95", "largest"), cells)
    lines += [line for picture in pictures for line in ("", f"![{picture.partition('.')[0]}]({picture})")]
    if found["examples"]:
        rows = [
            (one["request_id"], one["verdict"], one["old"], one["new"], f"{one['drift']:.3g}")
            for one in found["examples"]
        ]
        lines += ["", "## Examples", "", f"The {EXAMPLES} largest differences.", ""]
        lines += _table(("request", "differs in", old, new, "largest difference"), rows)
    return "\n".join([*lines, "", *([f"At the end: {_cell(found['note'])}.", ""] if found["note"] else [])])


def _latency(found: Mapping[str, Any], old: str, new: str) -> list[str]:
    rows = []
    for name, key in ((old, "old_in_worker"), (new, "new_from_outside")):
        times = found["latency"][key]
        cost = found["processor_seconds_per_request"][key.partition("_")[0]]
        cells = [f"{1000 * times[share]:.2f}" if times else "-" for share in ("p50", "p95", "p99")]
        rows.append((name, *cells, "-" if cost is None else f"{1000 * cost:.2f}"))
    return [
        "",
        "## Time",
        "",
        *_table(("version", "p50 ms", "p95 ms", "p99 ms", "processor ms per request"), rows),
        "",
        f"The times are not of the same thing: {old}'s are its batches' in the worker, at the clients' load; {new}'s "
        "are seen from outside, queue included, on the processor time that clients left over, and without answers that "
        "never came. Processor time per request is the figure to compare; a fuller batch makes it smaller.",
    ]


def _summary(summary: Summary | None) -> dict[str, float] | None:
    return asdict(summary) if summary else None


def _names(outcome: Outcome) -> tuple[str, str]:
    return f"{outcome.old}, in the worker", f"{outcome.new}, from outside"


def _table(heading: tuple[str, ...], rows: Any) -> list[str]:
    lines = ["| " + " | ".join(heading) + " |", "| --- " * len(heading) + "|"]
    return lines + ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]


def _cell(value: object) -> str:
    return plain(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
