"""An archive to be registered: checked, and in the model store, the only place that TorchServe takes one from."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from marserve.archive import Archive, read_archive
from marserve.edge.spec import MODEL_NAME
from marserve.errors import MarserveError
from marserve.management import Version
from marserve.models.running import Running
from marserve.state import digest
from marserve.trust.admission import admit, trusted_by
from marserve.trust.interface import differences
from marserve.trust.signing import signature_path

ACTION = "register"


def check_beside(server: Running, archive: Archive, new_interface: bool) -> None:
    """Everything that must be true of it beside the versions that are served. Raises MarserveError.

    With `new_interface` clients may have to change for it; otherwise it has to do for those of the default version.
    """
    served = server.management.versions()
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
    default = next((one for one in served if one.model == archive.name and one.default), None)
    before = _as_registered(server, default) if default and not new_interface else None
    if default and before and (changes := differences(before, archive)):
        raise MarserveError(
            f"clients of {archive.name} {default.version} could not go on with {archive.version}: "
            f"{'; '.join(changes)}. --new-interface registers it all the same"
        )


def _as_registered(server: Running, one: Version) -> Archive | None:
    """What a version was registered from, if that is still there."""
    path = server.archive(one)
    with suppress(MarserveError):
        if digest(path) == server.digest(one):
            return read_archive(path)
    return None


@contextmanager
def placed(server: Running, path: Path, new_interface: bool) -> Iterator[Archive]:
    """The archive in the server's model store; where it was copied there, an exception takes it away again.

    It is copied before it is checked, so that what is checked is what is served. Raises MarserveError for one that is
    not to be registered, and that is in the audit log then.
    """
    copies: list[Path] = []
    try:
        with _logged(server, path):
            if path.resolve().parent == server.store.resolve():
                archive = admit(server.store / path.name, trusted_by(server.rundir))
                if not re.fullmatch(MODEL_NAME, path.name):
                    raise MarserveError(f"{path}: TorchServe takes only letters, digits, '.', '_' and '-' in a name")
                check_beside(server, archive, new_interface)
            else:
                archive = _copied(server, path, copies, new_interface)
        yield archive
    except BaseException:
        for copy in copies:
            with suppress(OSError):
                copy.unlink()
        raise


def _copied(server: Running, path: Path, copies: list[Path], new_interface: bool) -> Archive:
    """The archive in the model store, with its signature beside it; adds to `copies` what was not there before."""
    part = server.store / f".{secrets.token_hex(8)}.part"
    parts = {part: path, **({signature_path(part): signature_path(path)} if signature_path(path).exists() else {})}
    trusted = trusted_by(server.rundir)
    try:
        for copy, source in parts.items():
            _copy(source, copy)
        archive = admit(part, trusted)
        check_beside(server, archive, new_interface)
        if found := _same_in_store(server.store, archive):
            return admit(found, trusted)
        target = server.store / f"{archive.name}-{archive.version}.mar"
        places = [target] if len(parts) == 1 else [target, signature_path(target)]
        for copy, place in zip(parts, places, strict=True):
            _put(copy, place)
            copies.append(place)
        return replace(archive, path=target)
    except MarserveError as error:
        raise MarserveError(str(error).replace(str(part), str(path))) from None
    finally:
        for copy in parts:
            copy.unlink(missing_ok=True)


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


def _put(part: Path, target: Path) -> None:
    try:
        os.link(part, target)  # unlike a rename it never replaces what is there
    except OSError as error:
        raise MarserveError(f"cannot make {target}: {error.strerror}") from None
