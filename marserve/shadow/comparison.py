"""Two versions' answers to the same requests, compared: any JSON. Keeps figures and labels, nothing of a request.

An answer that holds long texts (an image, a challenge) was made for one request by chance: of such, and of what is no
JSON, the status and the shape are compared alone.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from marserve.shadow.copies import Copy
from marserve.shadow.replay import Answer
from marserve.shadow.series import Series

AGREES, LABEL, TEXT, SHAPE, STATUS, NONE = "agrees", "label", "text", "shape", "status", "no answer"
VERDICTS = (AGREES, LABEL, TEXT, SHAPE, STATUS, NONE)

MOST_PATHS = 64  # places of numbers that have figures of their own
MOST_LABELS = 64  # characters
MOST_PAIRS = 1000  # of labels
LONG = 256  # characters of a text, from which on it is content
EXAMPLES = 10
OTHERS = "(others)"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Leaf(NamedTuple):
    kind: str  # its path without places in lists, as in `predictions[].label`
    value: Any

    @property
    def is_label(self) -> bool:
        return self.kind.rpartition(".")[2] in ("label", "predicted_class") and isinstance(self.value, str)

    @property
    def is_content(self) -> bool:
        return isinstance(self.value, str) and len(self.value) > LONG

    @property
    def is_number(self) -> bool:
        return isinstance(self.value, int | float) and not isinstance(self.value, bool)


@dataclass(frozen=True, slots=True)
class Example:
    """A request that was answered differently. `drift` is the largest difference of two numbers."""

    request_id: str
    verdict: str
    old: str
    new: str
    drift: float


class Difference(NamedTuple):
    verdict: str
    old: str = ""  # what differs, in words that may be told
    new: str = ""
    drifts: tuple[tuple[str, float], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    by_value: bool = True


class Comparison:
    """Of any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.verdicts: Counter[str] = Counter()
        self.statuses: Counter[tuple[int, int | str]] = Counter()
        self.labels: Counter[tuple[str, str]] = Counter()
        self.drifts: dict[str, Series] = {}
        self.old_seconds, self.new_seconds = Series(), Series()
        self.by_shape = 0  # answers of which status and shape were compared alone
        self.examples: list[Example] = []

    @property
    def compared(self) -> int:
        return self.verdicts.total()

    @property
    def disagreements(self) -> int:
        return self.compared - self.verdicts[AGREES]

    def add(self, copy: Copy, answer: Answer) -> None:
        found = difference(copy, answer)
        with self._lock:
            self.verdicts[found.verdict] += 1
            self.statuses[copy.reply.status, answer.status] += 1
            self.old_seconds.add(copy.seconds)
            if found.verdict != NONE:
                self.new_seconds.add(answer.seconds)
            self.by_shape += not found.by_value
            for pair in found.labels:
                known = pair in self.labels or len(self.labels) < MOST_PAIRS
                self.labels[pair if known else (OTHERS, OTHERS)] += 1
            for path, drift in found.drifts:
                known = path in self.drifts or len(self.drifts) < MOST_PATHS
                self.drifts.setdefault(path if known else OTHERS, Series()).add(drift)
            if found.verdict != AGREES:
                self._remember(_request_id(copy), found)

    def _remember(self, request_id: str, found: Difference) -> None:
        """The largest drifts of all, so that a label that hung in the balance gives way to one that did not."""
        drift = max((drift for _, drift in found.drifts), default=0.0)
        self.examples.append(Example(request_id, found.verdict, found.old, found.new, drift))
        self.examples.sort(key=lambda example: -example.drift)
        del self.examples[EXAMPLES:]


def difference(copy: Copy, answer: Answer) -> Difference:
    """What one answer differs in from the other; the gravest counts."""
    old = copy.reply
    if isinstance(answer.status, str):
        return Difference(NONE, str(old.status), answer.status)
    if old.status != answer.status:
        return Difference(STATUS, str(old.status), str(answer.status))
    if old.status >= 400:
        return Difference(AGREES)
    return _bodies(old.body, answer.body)


def leaves(body: bytes) -> dict[str, Leaf] | None:
    """By exact path; None where it is no JSON. Empty objects and lists are leaves too."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return dict(_leaves(value))


def _leaves(value: Any) -> Iterator[tuple[str, Leaf]]:
    stack: list[tuple[str, str, Any]] = [("", "", value)]
    while stack:
        path, kind, found = stack.pop()
        if isinstance(found, dict) and found:
            prefix = kind and f"{kind}."
            stack += ((f"{path}.{key}", f"{prefix}{key}", below) for key, below in found.items())
        elif isinstance(found, list) and found:
            stack += ((f"{path}[{place}]", f"{kind}[]", below) for place, below in enumerate(found))
        else:
            yield path, Leaf(kind or "the answer", found)


def _bodies(old_body: bytes, new_body: bytes) -> Difference:
    old, new = leaves(old_body), leaves(new_body)
    if old is None:
        return Difference(AGREES, by_value=False) if new is None else Difference(SHAPE, "no JSON", "JSON")
    if new is None:
        return Difference(SHAPE, "JSON", "no JSON")
    by_value = not any(
        isinstance(leaf.value, str) and len(leaf.value) > LONG for leaf in (*old.values(), *new.values())
    )
    lacking = {leaf.kind for leaf in old.values()} - {leaf.kind for leaf in new.values()}
    if lacking:
        return Difference(SHAPE, f"has {min(lacking)}", f"lacks {min(lacking)}", by_value=by_value)
    if not by_value:
        return Difference(AGREES, by_value=False)
    if old.keys() - new.keys():
        return Difference(SHAPE, f"{len(old)} values", f"{len(new)} values")
    pairs = [(leaf, new[path]) for path, leaf in old.items()]
    drifts = tuple(
        (one.kind, abs(one.value - other.value)) for one, other in pairs if one.is_number and other.is_number
    )
    labels = tuple((_told(one), _told(other)) for one, other in pairs if one.is_label)
    for was, now in labels:
        if was != now:
            return Difference(LABEL, was, now, drifts, labels)
    others = [one.kind for one, other in pairs if one.value != other.value and not (one.is_number and other.is_number)]
    if others and not labels:  # beside a label other texts are remarks
        return Difference(TEXT, others[0], f"another {others[0]}", drifts)
    return Difference(AGREES, drifts=drifts, labels=labels)


def _told(leaf: Leaf) -> str:
    """A label; whatever else is there may be of a client's."""
    if leaf.is_label:
        return leaf.value if len(leaf.value) <= MOST_LABELS else f"{leaf.value[:MOST_LABELS]}…"
    return f"no label ({type(leaf.value).__name__})"


def _request_id(copy: Copy) -> str:
    """The edge's, which its log has; without one TorchServe's."""
    for name, value in copy.headers.items():
        if name.lower() == "x-request-id" and _ID.fullmatch(str(value)):
            return str(value)
    return copy.request_id


def at_most(differing: int, compared: int) -> float:
    """The share that may differ among all requests, with 95 % confidence: Wilson's upper bound."""
    if not compared:
        return 1.0
    z = 1.96
    share = differing / compared
    middle = share + z * z / (2 * compared)
    width = z * math.sqrt(share * (1 - share) / compared + z * z / (4 * compared * compared))
    return min(1.0, (middle + width) / (1 + z * z / compared))
