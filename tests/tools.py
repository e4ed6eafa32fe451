"""Tools that are not Python packages: where one is missing a test skips, and fails in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def need(tool: str) -> None:
    """Skip the calling test without `tool`; `make deps` installs it."""
    if shutil.which(tool) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{tool} is missing: run `make deps`")
        pytest.skip(f"needs {tool} (make deps)")
