"""What is asked of a shadow, and what it has found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from marserve.settings import Addresses


@dataclass(frozen=True, slots=True)
class Options:
    model: str
    version: str  # the candidate
    addresses: Addresses
    seconds: float
    sample: float = 1.0  # of the requests
    max_disagreement: float = 0.01
    at_once: int = 4  # copies that the candidate has at any time
    limit: float = 10.0  # seconds for an answer
    report: Path | None = None


class Traffic(NamedTuple):
    seconds: float
    seen: int  # requests that the old version answered meanwhile, in all
    sampled: int  # that were to be copied


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a shadow has found; `agreed` is what a rollout goes on with, `verdict` says it in one line."""

    model: str
    old: str
    new: str
    seconds: float
    seen: int
    sampled: int
    dropped: int  # of those; the rest was compared
    compared: int
    disagreements: int
    agreed: bool
    verdict: str
    note: str  # what became of the candidate's workers, or nothing
    report: Path

    @classmethod
    def of(
        cls, options: Options, old: str, traffic: Traffic, compared: int, disagreements: int, note: str, report: Path
    ) -> Outcome:
        new, agreed = options.version, False
        if compared:
            share = disagreements / compared
            agreed = share <= options.max_disagreement
            verdict = f"{new} {'agrees with' if agreed else 'differs from'} {old} of {options.model}: "
            verdict += f"{disagreements:,} of {compared:,} answers differ ({share:.2%}, "
            verdict += f"the limit is {options.max_disagreement:.2%})"
        else:
            why = "no request came" if not traffic.seen else "no answer came" if traffic.sampled else "none was sampled"
            verdict = f"{new} was not compared with {old} of {options.model}: {why}"
        dropped = traffic.sampled - compared
        return cls(options.model, old, new, *traffic, dropped, compared, disagreements, agreed, verdict, note, report)

    @property
    def disagreement(self) -> float:
        """Of what was compared; 1 without anything."""
        return self.disagreements / self.compared if self.compared else 1.0
