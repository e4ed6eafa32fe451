"""One server for the tests that only ask it something; those that break things start their own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.edge import PUPIL, PUPIL_CONFIG
from tests.e2e.server import Server, serving
from tests.e2e.test_boot import write_bare
from tests.paths import ROOT


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def rest(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def pupil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two models, `pupil` and `other`, that do what they are told."""
    store = tmp_path_factory.mktemp("store")
    for name in ("pupil", "other"):
        write_bare(store, name, PUPIL, PUPIL_CONFIG)
    with serving("--model-store", str(store)) as running:
        yield running


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A real photograph (a cat, CC0)."""
    return (ROOT / "export" / "specs" / "captcha_image.jpg").read_bytes()
