"""Two answers, or an answer and its form: where the one is not as the other. Knows nothing of models.

A form has the names and types of an answer: "text", "number", "boolean", a list with the form of its elements, and "*"
for any name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: Mapping[type, str] = {str: "text", int: "number", float: "number", bool: "boolean"}


def difference(recorded: Any, found: Any, tolerance: float) -> str:
    """The first place, in words, where numbers are further apart than `tolerance`, which is absolute, or anything else
    is not equal; nothing where there is none."""
    return next(_differences(recorded, found, tolerance, ""), "")


def mismatch(form: Any, answer: Any) -> str:
    """The first place, in words, where an answer is not of that form; nothing where there is none."""
    return next(_mismatches(form, answer, ""), "")


def form_of(answer: Any) -> Any:
    """Of a list, that of its first element."""
    if isinstance(answer, dict):
        return {name: form_of(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [form_of(value) for value in answer[:1]]
    return _TYPES.get(type(answer), "nothing")


def _differences(recorded: Any, found: Any, tolerance: float, where: str) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(found, dict) and recorded.keys() == found.keys():
        for name, value in recorded.items():
            yield from _differences(value, found[name], tolerance, f"{where}.{name}")
    elif _is_ranking(recorded) and _is_ranking(found) and len(recorded) == len(found):
        yield from _ranked_differently(recorded, found, tolerance, where)
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for index, value in enumerate(recorded):
            yield from _differences(value, found[index], tolerance, f"{where}[{index}]")
    elif _TYPES.get(type(recorded)) == _TYPES.get(type(found)) == "number":
        if not abs(recorded - found) <= tolerance:  # NaN too
            yield f"{_place(where)} {found} instead of {recorded}, give or take {tolerance}"
    elif type(recorded) is not type(found) or recorded != found:
        yield f"{_place(where)} {_short(found)} instead of {_short(recorded)}"


def _is_ranking(value: Any) -> bool:
    """A list of labels with their probabilities, the likeliest first."""
    return isinstance(value, list) and all(isinstance(e, dict) and e.keys() == {"label", "probability"} for e in value)


def _ranked_differently(recorded: Any, found: Any, tolerance: float, where: str) -> Iterator[str]:
    """Label by label: which of two that are nearly as likely comes first is the machine's. One that is missing is at
    most as likely as the last."""
    probabilities = {entry["label"]: entry["probability"] for entry in found}
    for index, entry in enumerate(recorded):
        label = entry["label"]
        probability = probabilities.get(label, min(probabilities.values()))
        yield from _differences(entry["probability"], probability, tolerance, f"{where}[{index}].{label}")


def _mismatches(form: Any, value: Any, where: str) -> Iterator[str]:
    if isinstance(form, dict) and isinstance(value, dict):
        if "*" not in form and form.keys() != value.keys():
            yield f"{_place(where)} with {', '.join(value)} instead of {', '.join(form)}"
        for name, inner in value.items():
            yield from _mismatches(form.get(name, form.get("*")), inner, f"{where}.{name}")
    elif isinstance(form, list) and isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _mismatches(form[0], inner, f"{where}[{index}]")
    elif form != form_of(value):
        yield f"{_place(where)} {_short(value)} instead of {_short(form)}"


def _place(where: str) -> str:
    return where.lstrip(".") or "as a whole"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
