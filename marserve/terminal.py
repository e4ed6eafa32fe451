"""Text that others wrote, on a terminal of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console


def console(stderr: bool = False) -> Console:
    """Prints such text as it is: `[b]` and `:cat:` stay what they are. Colours and styles are for terminals only."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Tells what is being waited for, on a terminal; elsewhere nothing is seen of it."""
    with Console(stderr=True, highlight=False, markup=False, emoji=False).status("") as status:
        yield lambda text: status.update(plain(text))


def columns(rows: Sequence[Sequence[object]]) -> str:
    """A table that is as wide as it must be, whatever reads it: nothing of a name is cut off."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def plain(value: object) -> str:
    """On one line and without control characters, which a terminal would obey."""
    text = " ".join(str(value).splitlines())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def short(text: str, width: int = 100) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
