"""What `marserve serve` prints when it is ready: for each model a command that can be pasted as it is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from marserve.archive import Archive
from marserve.failures import Failure
from marserve.overrides import Overrides
from marserve.rundir import RunDir
from marserve.settings import Addresses
from marserve.state import Plan


def write_examples(archives: list[Archive], rundir: RunDir) -> None:
    """Unpack the example files, so that the printed commands can be pasted as they are."""
    for archive in archives:
        if "file" in archive.example:
            _example_path(archive, rundir).write_bytes(archive.example_request()[0])


def _example_path(archive: Archive, rundir: RunDir) -> Path:
    return rundir.examples / f"{archive.name}-{archive.version}{Path(archive.example['file']).suffix}"


def summary(
    plan: Plan,
    failures: Sequence[Failure],
    overrides: Mapping[str, Overrides],
    listening: Addresses,
    rundir: RunDir,
    seconds: float,
) -> str:
    lines = [f"marserve is ready after {seconds:.1f} s; Ctrl-C stops it", ""]
    for archive in plan.archives:
        versions = sum(other.name == archive.name for other in plan.archives)
        url = f"{listening.rest.url}/predictions/{archive.name}" + (f"/{archive.version}" if versions > 1 else "")
        lines += [f"  {archive.name}  version {archive.version}", f"    {_curl(archive, url, rundir)}"]
        if archive.name in overrides:
            own = overrides[archive.name]
            lines += [f"    overridden by {own.path}: {own.describe(archive)}"]
        lines += [""]
    if failures:
        lines += [f"failed      {', '.join(one.what for one in failures)}: the reasons are above"]
    if plan.said:
        lines += [f"restored    {'; '.join(plan.said)} (--fresh: the model store as it is)"]
    lines += [
        f"REST        {listening.rest.url}",
        f"gRPC        {listening.grpc}",
        f"management  {listening.management.url}/models",
        f"metrics     {listening.metrics.url}/metrics",
        f"health      {listening.metrics.url}/health",
        f"logs        {rundir.logs}",
    ]
    return "\n".join(lines)


def _curl(archive: Archive, url: str, rundir: RunDir) -> str:
    command = ["curl", "-s", url]
    if "json" in archive.example:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(archive.example["json"])]
    elif "file" in archive.example:
        command += ["-T", str(_example_path(archive, rundir))]
    else:
        command += ["-T", "FILE"]
    return shlex.join(command)
