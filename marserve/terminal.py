"""Text that others wrote, on a terminal of the user's."""

from __future__ import annotations

from rich.console import Console


def console() -> Console:
    """Prints such text as it is: `[b]` and `:cat:` stay what they are. Colours and styles are for terminals only."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def plain(value: object) -> str:
    """On one line and without control characters, which a terminal would obey."""
    text = " ".join(str(value).splitlines())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def short(text: str, width: int = 100) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
