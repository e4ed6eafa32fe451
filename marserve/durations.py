"""`50ms`, `0.05s`, `5m`: durations as people type them."""

from __future__ import annotations

import re

from marserve.errors import MarserveError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def seconds(text: str, option: str, least: float, most: float) -> float:
    """Raises MarserveError that names the option."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m)", text.strip(), re.ASCII)
    if not found:
        raise MarserveError(f"{option} takes a number and its unit, as in 50ms, 0.05s or 5m; not {text!r}")
    value = float(found[1]) * _UNITS[found[2]]
    if not least <= value <= most:
        raise MarserveError(f"{option} must be from {least:g}s to {most:g}s, not {text}")
    return value
