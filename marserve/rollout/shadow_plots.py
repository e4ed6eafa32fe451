"""The pictures of a shadow's report, as SVG that needs nothing else: no script, no font from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marserve.rollout.series import Series

_CURVE = (*range(0, 95, 5), 95, 96, 97, 98, 99, 99.5, 99.9)  # percentiles
_SHOWN = 8  # places of numbers in one plot
_LEAST_DRIFT = 1e-6  # smaller ones are rounding


def latency(old: Series, new: Series, names: tuple[str, str], path: Path) -> None:
    """A curve of percentiles for each."""
    chart = _chart("XY", x_title="percentile", y_title="ms", logarithmic=True, dots_size=2)
    chart.title = "Time of an answer"
    for name, series in zip(names, (old, new), strict=True):
        if series.kept:
            values = np.percentile(series.kept, _CURVE)
            chart.add(name, [(share, max(1000 * value, 0.01)) for share, value in zip(_CURVE, values, strict=True)])
    chart.render_to_file(str(path))


def drift(drifts: Mapping[str, Series], path: Path) -> None:
    """How large the differences are of numbers in two answers to the same request, those first that differ most."""
    most = sorted(drifts, key=lambda kind: -(sum(drifts[kind].kept) / len(drifts[kind].kept)))[:_SHOWN]
    top = max(0, *(math.ceil(math.log10(max(*drifts[kind].kept, _LEAST_DRIFT))) for kind in most))
    powers = list(range(round(math.log10(_LEAST_DRIFT)), top + 1))
    chart = _chart("Bar", x_title="difference, at most", y_title="% of the answers")
    chart.title = "Difference of numbers"
    chart.x_labels = [f"{10.0**power:g}" for power in powers]
    for kind in most:
        values = np.asarray(drifts[kind].kept)
        # What is under the first step, exact agreement with it, is in the first bar.
        places = np.searchsorted([10.0**power for power in powers], values)
        counts = np.bincount(np.minimum(places, len(powers) - 1), minlength=len(powers))
        chart.add(kind, [100 * int(count) / len(values) for count in counts])
    chart.render_to_file(str(path))


def _chart(kind: str, **options: Any) -> Any:
    import pygal
    from pygal.style import Style

    style = Style(
        background="white",
        plot_background="white",
        font_family="sans-serif",
        colors=("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"),
    )
    return getattr(pygal, kind)(
        js=(), style=style, width=760, height=400, legend_at_bottom=True, legend_at_bottom_columns=2, **options
    )
