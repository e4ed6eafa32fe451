"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from tests.tools import need

# Nothing of Chromium's own leaves the machine.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


@contextmanager
def page(width: int = 1100, height: int = 900) -> Iterator[tuple[Page, list[str]]]:
    """A new page, and what goes wrong on it: errors of scripts, and requests that fail."""
    need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", *QUIET]
        )
        opened = browser.new_page(viewport={"width": width, "height": height})
        problems: list[str] = []
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("requestfailed", lambda request: problems.append(f"{request.url}: {request.failure}"))
        opened.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        try:
            yield opened, problems
        finally:
            browser.close()
