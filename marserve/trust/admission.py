"""What may be served: an archive whose files are those that were packed, and which a trusted key has signed.

`marserve serve` asks this of every archive before it starts anything, `marserve models register` of a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from marserve.archive import Archive, read_intact
from marserve.errors import MarserveError
from marserve.rundir import RunDir
from marserve.settings import REQUIRE_SIGNATURE
from marserve.trust import signing


def admit(path: Path, trusted: Path | None) -> Archive:
    """Read an archive. `trusted`, where signatures are asked for, holds the public keys of which one must have signed.

    Raises MarserveError for what must not be served. The signature comes first: nothing else is read of what has none.
    """
    if trusted is not None:
        signing.verify(path, signing.read_public_keys(trusted))
    return read_intact(path)


def required(properties: Mapping[str, str], config: Path) -> Path | None:
    """The file of trusted keys that a configuration names, relative to its own folder; None where it asks for none.

    Raises MarserveError for a file that holds none.
    """
    if REQUIRE_SIGNATURE not in properties:
        return None
    if not properties[REQUIRE_SIGNATURE]:
        raise MarserveError(f"{config}: {REQUIRE_SIGNATURE} must name a file of public keys")
    path = config.parent / properties[REQUIRE_SIGNATURE]
    signing.read_public_keys(path)
    return path


def trusted_by(rundir: RunDir) -> Path | None:
    """The keys of a running server; None where it asks for no signatures."""
    return rundir.trusted if rundir.trusted.exists() else None
