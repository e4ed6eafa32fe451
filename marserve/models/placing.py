"""An archive to be registered: checked, and in the model store, the only place that TorchServe takes one from."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from marserve.archive import Archive, read_archive
from marserve.edge.spec import MODEL_NAME
from marserve.errors import MarserveError
from marserve.management import Version
from marserve.models.running import Running
from marserve.state import digest

ACTION = "register"


def check(path: Path) -> Archive:
    """Everything that must be true of an archive by itself before its code may run. Raises MarserveError."""
    archive = read_archive(path)
    if archive.changed:
        raise MarserveError(
            f"{path} is damaged: {', '.join(archive.changed)} differ from digests.json; export it again"
        )
    return archive


def check_beside(served: Sequence[Version], archive: Archive, server: Running) -> None:
    """Everything that must be true of it beside the versions that are served. Raises MarserveError."""
    for one in served:
        if (one.model, one.version) == (archive.name, archive.version):
            same = server.digest(one) == digest(archive.path)
            which = "this archive" if same else "another archive: give yours a new version"
            raise MarserveError(f"{archive.name} {archive.version} is registered already, from {which}")
        if server.archive(one) == archive.path:
            raise MarserveError(
                f"{archive.path} was {one.model} {one.version}, which is served and could not come back at the next "
                "start: restore that file, and register yours from elsewhere"
            )


@contextmanager
def placed(server: Running, path: Path) -> Iterator[Archive]:
    """The archive in the server's model store; where it was copied there, an exception takes it away again.

    It is copied before it is checked, so that what is checked is what is served. Raises MarserveError for one that is
    not to be registered, and that is in the audit log then.
    """
    copied = None
    try:
        with _logged(server, path):
            if path.resolve().parent == server.store.resolve():
                archive = check(server.store / path.name)
                if not re.fullmatch(MODEL_NAME, path.name):
                    raise MarserveError(f"{path}: TorchServe takes only letters, digits, '.', '_' and '-' in a name")
                check_beside(server.management.versions(), archive, server)
            else:
                archive, copied = _copied(server, path)
        yield archive
    except BaseException:
        if copied:
            with suppress(OSError):
                copied.unlink()
        raise


def _copied(server: Running, path: Path) -> tuple[Archive, Path | None]:
    """The archive in the model store, and its path if it was not there before."""
    part = server.store / f".{secrets.token_hex(8)}.part"
    try:
        _copy(path, part)
        archive = check(part)
        check_beside(server.management.versions(), archive, server)
        if found := _same_in_store(server.store, archive):
            return replace(archive, path=found), None
        target = _put(part, server.store / f"{archive.name}-{archive.version}.mar")
        return replace(archive, path=target), target
    except MarserveError as error:
        raise MarserveError(str(error).replace(str(part), str(path))) from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _logged(server: Running, path: Path) -> Iterator[None]:
    """What is refused here."""
    try:
        yield
    except MarserveError as error:
        name = ""
        with suppress(MarserveError):
            name = read_archive(path).name
        server.audit.record(ACTION, name, archive=str(path), digest=digest(path), detail=str(error), failed=True)
        raise


def _same_in_store(store: Path, archive: Archive) -> Path | None:
    """A file with the same version; the next start would not know which to take. Raises MarserveError for another."""
    for path in sorted(store.glob("*.mar")):
        with suppress(MarserveError):
            found = read_archive(path)
            if (found.name, found.version) != (archive.name, archive.version):
                continue
            if digest(path) == digest(archive.path):
                return path
            break
    else:
        return None
    raise MarserveError(
        f"{path} holds another {archive.name} {archive.version}: remove it, or give yours a new version"
    )


def _copy(path: Path, part: Path) -> Path:
    try:
        with path.open("rb") as source, part.open("xb") as target:
            shutil.copyfileobj(source, target, 2**20)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise MarserveError(f"cannot copy {path} to {part.parent}: {error.strerror}") from None
    return part


def _put(part: Path, target: Path) -> Path:
    try:
        os.link(part, target)  # unlike a rename it never replaces what is there
    except OSError as error:
        raise MarserveError(f"cannot make {target}: {error.strerror}") from None
    return target
