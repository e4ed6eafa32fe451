"""The audit log: who changed what about the models of a server, when, from what to what, and how that went.

An entry is there before its change is made, as begun, and told the outcome afterwards. Where it cannot be written,
nothing is changed: no change goes unlogged, and what was cut short is seen. SQLite's rollback journal is what two
commands at once, SIGKILL and a loss of power cannot harm; its write-ahead log could not be read in a folder that has
become read-only.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from marserve.errors import MarserveError
from marserve.state import folder

BEGUN, DONE, FAILED = "begun", "done", "failed"  # an entry's outcomes; begun is what was killed, or goes on
ROLLBACK = "rollback"  # the action that goes back to the default before
BUSY_TIMEOUT = 10.0  # seconds that another command may keep the file

_TABLE = """
CREATE TABLE IF NOT EXISTS changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    model TEXT NOT NULL,
    from_version TEXT NOT NULL,
    to_version TEXT NOT NULL,
    archive TEXT NOT NULL,
    digest TEXT NOT NULL,
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL,
    default_changed INTEGER NOT NULL
)
"""
_INSERT = "INSERT INTO changes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT = """
SELECT time, who, action, model, from_version, to_version, archive, digest, detail, outcome, default_changed
FROM changes WHERE ? IN ('', model) ORDER BY id DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """In the order of the table's columns."""

    time: str  # ISO 8601, UTC
    who: str
    action: str
    model: str
    from_version: str  # empty where there was none
    to_version: str  # empty where it is gone
    archive: str  # path of the file that this is about
    digest: str  # its SHA-256
    detail: str  # what is worth knowing; of a failure, why
    outcome: str
    default_changed: int  # 1 where it was about the default version, from `from_version` to `to_version`


class Audit:
    """`PORT.audit.db` beside the server's state file, for this user's eyes only. Everything raises MarserveError."""

    def __init__(self, port: int, place: Path | None = None) -> None:
        """`place` is the folder, where it is not this user's usual one."""
        self.path = (place or folder()) / f"{port}.audit.db"

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Only one command at a time is in here: what it has read is still true when it changes it."""
        self._make()
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def change(
        self,
        action: str,
        model: str,
        from_version: str = "",
        to_version: str = "",
        archive: str = "",
        digest: str = "",
        detail: str = "",
        *,
        default_changed: bool = False,
    ) -> Iterator[None]:
        """Make one change inside, which fails by an exception. The entry is there before."""
        values = (_now(), _who(), action, model, from_version, to_version, archive, digest, detail, BEGUN)
        with self._writing("nothing is changed") as database:
            entry = database.execute(_INSERT, (*values, default_changed)).lastrowid
        try:
            yield
        except BaseException as error:
            reason = str(error) or type(error).__name__
            self._end(entry, FAILED, f"{detail}; {reason}" if detail else reason, f"the change has failed: {reason}")
            raise
        self._end(entry, DONE, detail, "the change is made")

    def record(
        self,
        action: str,
        model: str,
        from_version: str = "",
        to_version: str = "",
        digest: str = "",
        detail: str = "",
        *,
        archive: str = "",
        failed: bool = False,
    ) -> None:
        """What has happened already, and has not changed the default."""
        with self._writing("what has happened is not logged") as database:
            values = (_now(), _who(), action, model, from_version, to_version, archive, digest, detail)
            database.execute(_INSERT, (*values, FAILED if failed else DONE, False))

    def entries(self, model: str = "", limit: int = -1) -> list[Entry]:
        """The newest first, of one model or all."""
        if not self.path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT)) as database:
                rows = database.execute(_SELECT, (model, limit)).fetchall()
        except sqlite3.Error as error:
            raise MarserveError(f"cannot read the audit log {self.path}: {error}") from None
        return [Entry(*row) for row in rows]

    def previous_default(self, model: str, current: str) -> str | None:
        """The default version before the `current` one; None where the log knows of none."""
        return default_before(reversed(self.entries(model)), current)

    def _end(self, entry: int | None, outcome: str, detail: str, otherwise: str) -> None:
        with self._writing(otherwise) as database:
            database.execute("UPDATE changes SET outcome = ?, detail = ? WHERE id = ?", (outcome, detail, entry))

    @contextmanager
    def _writing(self, otherwise: str) -> Iterator[sqlite3.Connection]:
        self._make()
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT)) as database, database:
                database.execute(_TABLE)
                yield database
        except sqlite3.Error as error:
            raise MarserveError(f"cannot write the audit log {self.path} ({error}): {otherwise}") from None

    def _make(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise MarserveError(f"cannot write the audit log {self.path}: {error.strerror}") from None


def default_before(entries: Iterable[Entry], current: str) -> str | None:
    """Of one model, the eldest first. A rollback takes what it goes back to away, so that the next one goes further."""
    before: list[str] = []
    last = ""
    for entry in entries:
        if entry.default_changed and entry.outcome == DONE:
            if last and last != entry.from_version:
                before.append(last)  # something else has changed it meanwhile
            if entry.action != ROLLBACK:
                before.append(entry.from_version)
            elif entry.to_version in before:
                while before.pop() != entry.to_version:
                    pass
            last = entry.to_version
    if last and last != current:
        before.append(last)
    while before and before[-1] == current:
        before.pop()
    return before[-1] if before else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _who() -> str:
    """The user; with sudo the one who has called it, who can be trusted as far as they may set their environment."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    called_by = os.environ.get("SUDO_USER", "")
    return f"{called_by} as {user}" if called_by and called_by != user else user
