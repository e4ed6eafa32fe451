"""The split, where it is refused before any edge is asked, or there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.bench.processes import free_port
from marserve.edge import split
from marserve.edge.process import EdgeDir
from marserve.errors import MarserveError


@pytest.fixture
def rundir(runtime: Path) -> EdgeDir:
    return EdgeDir(free_port())


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a\n", "a/b", "-a", "a:b", "a" * 129])
def test_no_names(rundir: EdgeDir, name: str) -> None:
    for ask in (split.clear, split.in_flight, split.knows):
        with pytest.raises(MarserveError, match="is no name of a model or version"):
            ask(rundir, name)
    for model, version in ((name, "1.0"), ("pupil", name)):
        with pytest.raises(MarserveError, match="is no name of a model or version"):
            split.set_share(rundir, model, version, 0.5)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares(rundir: EdgeDir, share: float) -> None:
    with pytest.raises(MarserveError, match="must be from 0 to 1"):
        split.set_share(rundir, "pupil", "1.0", share)


def test_no_edge(rundir: EdgeDir) -> None:
    for ask in (split.clear, split.in_flight, split.knows):
        with pytest.raises(MarserveError, match=f"the edge on port {rundir.port} does not answer"):
            ask(rundir, "pupil")
    with pytest.raises(MarserveError, match="does not answer"):
        split.set_share(rundir, "pupil", "1.0", 0.5)
    with pytest.raises(MarserveError, match="no marserve edge of yours is running on port"):
        rundir.read_access_log_file()
