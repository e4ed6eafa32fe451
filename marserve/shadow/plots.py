"""The pictures of a shadow's report, as SVG that needs nothing else: no script, no font from elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marserve.shadow.series import Series

_CURVE = (5, 25, 50, 75, 90, 95, 99, 99.9)  # percentiles
_SHOWN = 8  # places of numbers in one plot
_LEAST_DRIFT = 1e-6  # smaller ones are rounding


def latency(old: Series, new: Series, names: tuple[str, str], path: Path) -> None:
    """A curve of percentiles for each."""
    chart = _chart("Line", "Time of an answer", "percentile", "ms", logarithmic=True)
    chart.x_labels = [f"{share:g}" for share in _CURVE]
    for name, series in zip(names, (old, new), strict=True):
        if series.kept:
            chart.add(name, [max(1000 * float(value), 0.01) for value in np.percentile(series.kept, _CURVE)])
    chart.render_to_file(str(path))


def drift(drifts: Mapping[str, Series], path: Path) -> None:
    """How large the differences are of numbers in two answers to the same request, those first that differ most."""
    most = sorted(drifts, key=lambda kind: -(sum(drifts[kind].kept) / len(drifts[kind].kept)))[:_SHOWN]
    top = max(0, *(math.ceil(math.log10(max(*drifts[kind].kept, _LEAST_DRIFT))) for kind in most))
    powers = list(range(round(math.log10(_LEAST_DRIFT)), top + 1))
    chart = _chart("Bar", "Difference of numbers", "difference, at most", "% of the answers")
    chart.x_labels = [f"{10.0**power:g}" for power in powers]
    for kind in most:
        values = np.asarray(drifts[kind].kept)
        # What is under the first step, exact agreement with it, is in the first bar.
        places = np.searchsorted([10.0**power for power in powers], values)
        counts = np.bincount(np.minimum(places, len(powers) - 1), minlength=len(powers))
        chart.add(kind, [100 * int(count) / len(values) for count in counts])
    chart.render_to_file(str(path))


def _chart(kind: str, title: str, x_title: str, y_title: str, **options: Any) -> Any:
    import pygal
    from pygal.style import Style

    # Its hook for maps of its own would be asked, and warned about, at every import that comes after.
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    style = Style(
        background="white",
        plot_background="white",
        font_family="sans-serif",
        guide_stroke_color="#dddddd",
        colors=("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"),
    )
    titles = {"title": title, "x_title": x_title, "y_title": y_title}
    chart = getattr(pygal, kind)(js=(), style=style, width=760, height=400, truncate_legend=24, **titles, **options)
    chart.add_xml_filter(_without_script)
    return chart


def _without_script(root: Any) -> Any:
    """Without what would make it answer to a mouse, which a picture in a page does not."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "script":
                parent.remove(child)
    return root
