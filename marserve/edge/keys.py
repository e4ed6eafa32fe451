"""API keys: 256 random bits that are shown once, and known here by their SHA-256 alone."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marserve.errors import MarserveError

PREFIX = "mk_"
NO_LIMIT = 1_000_000  # requests per second of a key without a limit
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Key:
    """`created` is in seconds since the epoch, `rate` in requests per second; None is no limit."""

    name: str
    sha256: str
    created: int
    rate: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise MarserveError(f"{self.name!r} is no name for a key: up to 64 letters, digits and . _ @ -")
        if not isinstance(self.sha256, str) or not _HASH.fullmatch(self.sha256):
            raise MarserveError(f"the key {self.name} has no SHA-256")
        if type(self.created) is not int:
            raise MarserveError(f"the key {self.name} has no date")
        if self.rate is not None and not (type(self.rate) is int and 1 <= self.rate <= NO_LIMIT):
            raise MarserveError(f"the rate of {self.name} must be from 1 to {NO_LIMIT} requests per second")

    @property
    def entry(self) -> str:
        """What HAProxy's map has for it."""
        return f"{self.rate or NO_LIMIT}:{self.name}"


def read(path: Path) -> tuple[Key, ...]:
    """All keys of a file; none where it does not exist. Raises MarserveError."""
    try:
        if path.stat().st_mode & 0o077:
            raise MarserveError(f"{path} is open to others: `chmod 600 {path}`")
        return tuple(Key(**entry) for entry in json.loads(path.read_text())["keys"])
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise MarserveError(f"cannot read the keys {path}: {error.strerror}") from None
    except (ValueError, LookupError, TypeError):
        raise MarserveError(f"{path} is no file with keys: `marserve keys create NAME` makes one") from None
    except MarserveError as error:
        raise MarserveError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None


def create(path: Path, name: str, rate: int | None) -> tuple[Key, str]:
    """Add a key to the file; the record, and the key itself, which nobody can get again. Raises MarserveError."""
    secret = PREFIX + secrets.token_urlsafe(32)
    key = Key(name, hashlib.sha256(secret.encode()).hexdigest(), int(time.time()), rate)
    with _held(path):
        keys = read(path)
        if any(other.name == name for other in keys):
            raise MarserveError(f"there is a key {name} already: `marserve keys revoke {name}`, or take another name")
        _write(path, (*keys, key))
    return key, secret


def revoke(path: Path, name: str) -> Key:
    """Take a key out of the file. Raises MarserveError where there is none of that name."""
    with _held(path):
        keys = read(path)
        found = next((key for key in keys if key.name == name), None)
        if found is None:
            raise MarserveError(f"{path} has no key {name}: `marserve keys list` shows them")
        _write(path, [key for key in keys if key != found])
    return found


def as_map(keys: Sequence[Key]) -> str:
    """For HAProxy: the SHA-256 and what belongs to it, a line for each key."""
    return "".join(f"{key.sha256} {key.entry}\n" for key in keys)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Nobody else changes files in that folder meanwhile."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MarserveError(f"cannot open the folder {path.parent}: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, keys: Sequence[Key]) -> None:
    content: dict[str, Any] = {"keys": [asdict(key) for key in keys]}
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise MarserveError(f"cannot write {path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
