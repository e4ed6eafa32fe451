"""The `Accept` header of a request -> which of the types on offer its reply has (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from handlers.errors import NotAcceptableError

JSON, JPEG, PNG = "application/json", "image/jpeg", "image/png"

_ELEMENT = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+"?)++', re.DOTALL)  # up to a comma outside of quotes
_PARAMETER = re.compile(r'(?:[^";]|"(?:[^"\\]|\\.)*+"?)++', re.DOTALL)
_WORD = r"[!#$%&'*+.^_`|~0-9a-z-]+"
_RANGE = re.compile(rf"({_WORD})/({_WORD})")
_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?|\.\d{1,3}")  # Java's own client leaves the 0 out


class _Range(NamedTuple):
    """`kind` or `subtype` is "*" for any."""

    kind: str
    subtype: str
    weight: float

    def precision(self, offer: str) -> int:
        """How closely it names this type: 3 as such, 2 by its first half, 1 as any type; 0 where it does not."""
        kind, _, subtype = offer.partition("/")
        if self.kind == "*":
            return 1
        if self.kind != kind:
            return 0
        return {"*": 2, subtype: 3}.get(self.subtype, 0)


def choose(header: str | None, offers: Sequence[str]) -> str:
    """The offer of the highest weight; among equals one that is named as such, then the first.

    Without a header, or with an empty one, it is the first. Parameters other than the weight are passed over, for no
    offer has any; what is no media range asks for nothing. Raises NotAcceptableError where no offer is wanted.
    """
    if header is None or not header.strip(", \t"):
        return offers[0]
    ranges = list(_ranges(header))
    best, best_rank = "", (0.0, 0)
    for offer in offers:
        precision, weight = max(((r.precision(offer), r.weight) for r in ranges), default=(0, 0.0))
        rank = (weight if precision else 0.0, precision)
        if rank > best_rank and rank[0] > 0:
            best, best_rank = offer, rank
    if not best:
        raise NotAcceptableError(f"this model replies with {', '.join(offers)}: name one of them in Accept, or */*")
    return best


def _ranges(header: str) -> Iterator[_Range]:
    for element in _ELEMENT.findall(header):
        name, *parameters = (part.strip(" \t").lower() for part in _PARAMETER.findall(element) or [""])
        found = _RANGE.fullmatch("*/*" if name == "*" else name)  # a lone * is an old way to write it
        weight = next((value for key, _, value in (p.partition("=") for p in parameters) if key.strip() == "q"), "1")
        if found and _WEIGHT.fullmatch(weight.strip()) and not (found[1] == "*" != found[2]):
            yield _Range(found[1], found[2], float(weight))
