"""`marserve edge ...` and `marserve keys ...`: flags in, one line per mistake out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from marserve.edge.spec import DEFAULT_PORT
from marserve.errors import MarserveError
from marserve.terminal import console

edge_app = typer.Typer(help="HAProxy before the server, for other machines and for overload.", no_args_is_help=True)
keys_app = typer.Typer(help="API keys of the edge.", no_args_is_help=True)

Config = Annotated[Path, typer.Option(help="The edge's settings.")]
ServerConfig = Annotated[Path, typer.Option(help="TorchServe's server-wide settings.")]
Port = Annotated[int, typer.Option(min=1100, max=65000, help="The edge's REST port.")]
Moved = Annotated[
    int | None,
    typer.Option(min=1100, max=65000, help=f"REST port; gRPC and metrics move with it.  [default: {DEFAULT_PORT}]"),
]
ServerPort = Annotated[
    int | None, typer.Option(min=1100, max=65000, help="REST port of the server behind.  [default: 8080]")
]
EDGE, SERVER = Path("edge.yaml"), Path("config.properties")


@edge_app.command()
def start(
    config: Config = EDGE,
    port: Moved = None,
    server_config: ServerConfig = SERVER,
    server_port: ServerPort = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when ready; `marserve edge stop` ends it.")] = False,
    parent: Annotated[
        int | None, typer.Option(hidden=True, help="End when this process, which started it, does.")
    ] = None,
) -> None:
    """Start HAProxy before a server of this machine, whether that is there already or not."""
    from marserve.edge import run

    if parent is not None:
        run.end_with(parent)
    options = run.Options(str(config.resolve()), port, str(server_config.resolve()), server_port)
    (run.detach if detach else run.start)(options)


@edge_app.command()
def check(
    config: Config = EDGE, port: Moved = None, server_config: ServerConfig = SERVER, server_port: ServerPort = None
) -> None:
    """Say whether the edge would start with these settings."""
    from marserve.edge import run

    run.check(run.Options(str(config), port, str(server_config), server_port))


@edge_app.command()
def reload(port: Port = DEFAULT_PORT) -> None:
    """Let a running edge read its settings again, without dropping a connection."""
    from marserve.edge import run

    run.reload(port)
    print(f"the edge on port {port} has the new settings")


@edge_app.command()
def stop(port: Port = DEFAULT_PORT) -> None:
    """Stop the edge once its requests have been answered."""
    from marserve.edge import run

    run.stop(port)


@keys_app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is: it stands in the access log.")],
    rate: Annotated[int | None, typer.Option(min=1, help="Requests per second.  [default: no limit]")] = None,
    config: Config = EDGE,
) -> None:
    """Make a key and print it, once. A running edge knows it at once."""
    from marserve.edge import keys, live

    key, secret = keys.create(_file(config), name, rate)
    live.add(_file(config), key)
    print(secret)
    print(f"this is the only time that {name}'s key is shown", file=sys.stderr)


@keys_app.command("list")
def list_keys(config: Config = EDGE) -> None:
    """Show the keys' names, dates and rates."""
    from marserve.edge import keys

    table = Table("name", "created", "requests per second")
    for key in keys.read(_file(config)):
        table.add_row(key.name, time.strftime("%Y-%m-%d %H:%M", time.localtime(key.created)), str(key.rate or "any"))
    console().print(table)


@keys_app.command()
def revoke(name: Annotated[str, typer.Argument(help="The key's name.")], config: Config = EDGE) -> None:
    """Take a key back. A running edge refuses it from the next request on."""
    from marserve.edge import keys, live

    live.remove(_file(config), keys.revoke(_file(config), name))
    print(f"revoked {name}'s key")


def _file(config: Path) -> Path:
    from marserve.edge.spec import read_spec

    path = read_spec(config).keys
    if path is None:
        raise MarserveError(f"{config} names no file for keys: add `keys: keys.json`")
    return path.resolve()
