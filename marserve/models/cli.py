"""`marserve models ...`: flags in, one line per mistake out."""

from __future__ import annotations

import json
import re
import signal
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from marserve.archive import Archive
from marserve.errors import DataError
from marserve.settings import DEFAULT_PORT
from marserve.terminal import columns, progress

models_app = typer.Typer(help="The versions of a running server's models.", no_args_is_help=True)

Port = Annotated[int, typer.Option(min=1100, max=65000, help="The server's REST port.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Name = Annotated[str, typer.Argument(help="The model.")]
Version = Annotated[str, typer.Argument(help="Its version.")]
NOT_KEPT = "note: the server has not kept this for its next start: is the disk of its state folder full?"


@models_app.callback()
def models() -> None:
    """The versions of a running server's models."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: what was half done is taken back


@models_app.command("list")
def list_models(port: Port = DEFAULT_PORT, as_json: AsJson = False) -> None:
    """Show every version; requests that name none get the default. `since` is when its eldest worker was started.

    Then what has failed, and why.
    """
    from marserve.models.running import Running

    with Running(port) as server:
        versions = server.management.versions()
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "model": one.model,
                "version": one.version,
                "default": one.default,
                "workers": len(one.workers),
                "ready": one.ready,
                **one.settings,
                "queue": one.pending,
                "since": one.since or None,
                "archive": one.archive,
            }
            for one in versions
        ]
        rows += [
            {"model": one.model, "version": one.version, "archive": one.archive, "failed": one.reason}
            for one in server.failed
        ]
        print(json.dumps(rows, indent=2))
        return
    table: list[tuple[object, ...]] = [("MODEL", "VERSION", "DEFAULT", "WORKERS", "READY", "BATCH", "QUEUE", "SINCE")]
    for one in versions:
        numbers = (len(one.workers), one.ready, one.settings["batchSize"], one.pending)
        table.append((one.model, one.version, "*" * one.default, *numbers, _ago(one.since)))
    print(columns(table))
    for failure in server.failed:
        print(failure.line)


@models_app.command()
def register(
    archive: Annotated[Path, typer.Argument(help="A .mar file; copied to the model store unless it is there.")],
    workers: Annotated[int | None, typer.Option(min=1, max=1000, help="  [default: as its settings say]")] = None,
    new_interface: Annotated[
        bool, typer.Option("--new-interface", help="Also where clients of the default version could not go on with it.")
    ] = False,
    then_promote: Annotated[bool, typer.Option("--promote", help="Then make it the default.")] = False,
    port: Port = DEFAULT_PORT,
    as_json: AsJson = False,
) -> None:
    """Add a version: when this returns, each of its workers has answered the archive's example. Or nothing is left."""
    from marserve.models import changing, registering
    from marserve.models.running import Running

    with Running(port) as server, progress() as say:
        done = registering.register(server, archive, workers, new_interface, say)
        name, version = done.archive.name, done.archive.version
        switched = changing.promote(server, name, version) if then_promote else None
    fields = {"model": name, "version": version, "archive": str(done.archive.path), "workers": done.workers}
    _say(
        as_json,
        {**fields, "kept": done.kept, **({"switched": asdict(switched)} if switched else {})},
        f"{name} {version} is registered ({done.archive.path}); workers: {done.workers}, {_readiness(done.archive)}",
        done.kept,
    )
    if switched and not as_json:
        print(_switched(switched))


@models_app.command()
def scale(
    name: Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="The default version, if none is named.")],
    workers: Annotated[str, typer.Option(help="2, or 2-4 for at least and at most.")],
    port: Port = DEFAULT_PORT,
    as_json: AsJson = False,
) -> None:
    """Give a version so many workers, and wait until they are ready."""
    from marserve.models import changing
    from marserve.models.running import Running

    if not (match := re.fullmatch(r"([1-9]\d{0,2})(?:-([1-9]\d{0,2}))?", workers)):
        raise DataError(f"--workers is a number from 1, or two like 2-4, not {workers!r}")
    low, high = int(match[1]), int(match[2] or match[1])
    if low > high:
        raise DataError(f"--workers {workers}: the least is more than the most")
    model, _, version = name.partition(":")
    with Running(port) as server, progress() as say:
        one = server.version(model, version) if version else server.default(model)
        count = changing.scale(server, one, low, high, say)
    fields = {"model": one.model, "version": one.version, "workers": count}
    _say(as_json, fields, f"{one.model} {one.version}: workers: {count}, all ready")


@models_app.command()
def promote(name: Name, version: Version, port: Port = DEFAULT_PORT, as_json: AsJson = False) -> None:
    """Make a version the default. It needs a worker that is ready."""
    from marserve.models import changing
    from marserve.models.running import Running

    with Running(port) as server:
        done = changing.promote(server, name, version)
    _say(as_json, asdict(done), _switched(done), done.kept)


@models_app.command()
def rollback(name: Name, port: Port = DEFAULT_PORT, as_json: AsJson = False) -> None:
    """Make the version the default that was it before; again, the one before that."""
    from marserve.models import changing
    from marserve.models.running import Running

    with Running(port) as server:
        done = changing.rollback(server, name)
    _say(as_json, asdict(done), _switched(done), done.kept)


@models_app.command()
def remove(
    name: Name,
    version: Version,
    force: Annotated[
        bool, typer.Option("--force", help="Also a model's only version, and one that is still being asked.")
    ] = False,
    wait: Annotated[str, typer.Option(help="How long its requests may take to be answered.")] = "30s",
    port: Port = DEFAULT_PORT,
    as_json: AsJson = False,
) -> None:
    """Take a version off the server once its requests are answered. Its archive stays in the model store."""
    from marserve.durations import seconds
    from marserve.models import changing
    from marserve.models.running import Running

    patience = seconds(wait, "--wait", 0, 3600)
    with Running(port) as server, progress() as say:
        one = server.version(name, version)
        kept = changing.remove(server, one, force, patience, say)
        archive = server.archive(one)
    fields = {"model": name, "version": version, "archive": str(archive), "kept": kept}
    _say(as_json, fields, f"{name} {version} is removed; {archive} is still there", kept)


@models_app.command()
def history(
    name: Annotated[str, typer.Argument(help="Only of this model.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest first.")] = 20,
    port: Port = DEFAULT_PORT,
    as_json: AsJson = False,
) -> None:
    """Show who has changed what. Needs no running server."""
    from marserve.models.running import audit

    entries = audit(port).entries(name, limit)
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    table = [("WHEN (UTC)", "WHO", "WHAT", "MODEL", "FROM", "TO", "SHA-256", "OUTCOME")]
    for one in entries:
        versions = (one.from_version, one.to_version)
        outcome = f"{one.outcome}: {one.detail}" if one.detail else one.outcome
        table.append(
            (one.time[:19].replace("T", " "), one.who, one.action, one.model, *versions, one.digest[:12], outcome)
        )
    print(columns(table))


def _say(as_json: bool, fields: dict[str, Any], text: str, kept: bool = True) -> None:
    print(json.dumps(fields) if as_json else text)
    if not kept:
        print(NOT_KEPT, file=sys.stderr)


def _switched(done: Any) -> str:
    if done.was == done.now:
        return f"{done.model}: {done.now} is the default already"
    return f"{done.model}: {done.was} -> {done.now}"


def _readiness(archive: Archive) -> str:
    return "each has answered its example" if archive.example else "all ready (it has no example to ask them)"


def _ago(since: str) -> str:
    """`3 min ago`; nothing for nothing."""
    if not since:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"
