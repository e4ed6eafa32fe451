"""Models that cannot be served, and why: each costs only itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from marserve.errors import MarserveError
from marserve.terminal import console, plain

MARK = "FAILED"  # what such a line begins with


@dataclass(frozen=True, slots=True)
class Failure:
    """Of an archive that was refused, whose `model` and `version` are empty, or of a version that did not get ready.

    `reason` is for who runs the server; `kind`, which is from this program alone, for everyone who can see its pages.
    """

    archive: str  # the file's name in the model store
    model: str
    version: str
    reason: str
    kind: str

    @property
    def what(self) -> str:
        return f"{self.model} {self.version}" if self.model else self.archive

    @property
    def line(self) -> str:
        return f"{MARK} {self.what}: {plain(self.reason)}"

    @property
    def message(self) -> str:
        """The reason by itself, as an error has it."""
        return f"{self.model} {self.reason}" if self.model else self.reason


def tell_failures(failures: Iterable[Failure]) -> None:
    """A line on standard error for each."""
    for failure in failures:
        tell_failed(failure.line)


def tell_failed(line: str) -> None:
    """One that begins with the mark, which is red on a terminal."""
    sys.stdout.flush()
    out = console(stderr=True)
    out.print(MARK, style="bold red", end="")
    out.print(line.removeprefix(MARK))


def nothing_left(failures: Sequence[Failure]) -> MarserveError:
    """What there is to say where all have failed."""
    if len(failures) == 1:
        return MarserveError(failures[0].message)
    return MarserveError("nothing can be served: " + "; ".join(failure.message for failure in failures))
