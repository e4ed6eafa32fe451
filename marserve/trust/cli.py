"""`marserve signing-key`, `sign` and `verify`: flags in, one line per mistake out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from marserve.errors import MarserveError

ArchivePath = Annotated[Path, typer.Argument(help="A .mar file.")]


def add_commands(app: typer.Typer) -> None:
    app.command("signing-key")(signing_key)
    app.command()(sign)
    app.command()(verify)


def signing_key(
    file: Annotated[Path, typer.Argument(help="The private key; FILE.pub will be the public one.")],
) -> None:
    """Make an Ed25519 key to sign archives with. It never overwrites one."""
    from marserve.trust import signing

    public, fingerprint = signing.make_key(file)
    print(f"private key  {file}  (keep it from the servers, and from the repository)")
    print(f"public key   {public}  {fingerprint}")


def sign(
    archive: ArchivePath,
    key: Annotated[Path, typer.Option(help="A private key that `marserve signing-key` has made.")],
) -> None:
    """Write ARCHIVE.sig: the key's owner vouches for the archive as it is."""
    from marserve.archive import read_intact
    from marserve.trust import signing

    private = signing.read_private_key(key)
    read_intact(archive)
    path = signing.sign(archive, private)
    print(f"{path}: signed by {signing.fingerprint(private.public_key())}")


def verify(
    archive: ArchivePath,
    key: Annotated[Path, typer.Option(help="Public keys in PEM, of which any may have signed.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say which key has signed an archive; exit code 1 where none of these has, or where it must not be served."""
    from marserve.archive import read_intact
    from marserve.trust import signing

    try:
        signer = signing.fingerprint(signing.verify(archive, signing.read_public_keys(key)))
        found = read_intact(archive)
    except MarserveError as error:
        if as_json:
            print(json.dumps({"archive": str(archive), "error": str(error)}))
        raise
    if as_json:
        print(json.dumps({"archive": str(archive), "name": found.name, "version": found.version, "signed_by": signer}))
    else:
        print(f"{archive}: {found.name} {found.version}, signed by {signer}")
