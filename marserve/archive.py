"""Look into a `.mar` without unpacking or running it."""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from handlers.archive import DIGESTS
from marserve.errors import MarserveError
from marserve.failures import Failure

REFUSED = "the archive is refused"  # the kind of every failure that is found here
_MANIFEST = "MAR-INF/MANIFEST.json"
_METADATA = "metadata.json"
_RUNTIMES = ("python", "python3")  # TorchServe's
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # they become parts of URLs and paths


@dataclass(frozen=True, slots=True)
class Archive:
    """What an archive says of itself. `metadata` and `handler` are empty in archives that marserve did not make."""

    path: Path
    name: str
    version: str
    config: Mapping[str, Any]
    handler: Mapping[str, Any]
    metadata: Mapping[str, Any]
    files: Mapping[str, int]  # name -> bytes
    changed: tuple[str, ...] = field(default=())  # files that are not the ones that were packed, or were added

    @property
    def example(self) -> Mapping[str, Any]:
        """{"file": name} or {"json": {...}}, or nothing."""
        return self.handler.get("example") or {}

    def example_request(self) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the request that the archive names as its example. Raises MarserveError without one."""
        if "json" in self.example:
            return json.dumps(self.example["json"]).encode(), {"content-type": "application/json"}
        if self.example.get("file") not in self.files:
            raise MarserveError(f"{self.path} carries no example request")
        return self.read(self.example["file"]), {"content-type": "application/octet-stream"}

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)

    def unpack(self, prefix: str, target: Path) -> None:
        """Write the files below `prefix`/ into `target`, which is made."""
        target.mkdir(parents=True)
        with zipfile.ZipFile(self.path) as archive:
            for name in self.files:
                place = Path(name)
                if name.startswith(f"{prefix}/") and place.parent == Path(prefix):
                    (target / place.name).write_bytes(archive.read(name))


def read_archive(path: Path) -> Archive:
    """Read and check one archive. Raises MarserveError for what is no archive, or a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise MarserveError(f"{path} is damaged: {damaged!r} does not match its checksum")
            files = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
            manifest = json.loads(archive.read(_MANIFEST))
            model = manifest["model"]
            config_file = model.get("configFile", "")
            config = _section(yaml.safe_load(archive.read(config_file)) if config_file in files else {}, config_file)
            metadata, handler = {}, {}
            changed: tuple[str, ...] = ()
            if DIGESTS in files:
                metadata = _section(json.loads(archive.read(_METADATA)), _METADATA)
                handler = _section(config.get("handler"), "handler")
                example = _section(handler.get("example"), "handler.example")
                if not isinstance(example.get("file", ""), str) or not isinstance(handler.get("pool") or "", str):
                    raise TypeError("handler.example.file and handler.pool must be text")
                changed = _changed(archive)
            name, version = model["modelName"], str(model["modelVersion"])
            if not (_NAME.fullmatch(name) and _NAME.fullmatch(version)):
                raise MarserveError(f"{path}: model name {name!r} or version {version!r} has odd characters")
            if manifest.get("runtime") not in _RUNTIMES:  # it would keep TorchServe from restoring others, too
                raise MarserveError(f"{path}: the manifest's runtime must be one of {', '.join(_RUNTIMES)}")
            return Archive(path, name, version, config, handler, metadata, files, changed)
    except FileNotFoundError:
        raise MarserveError(f"{path} does not exist") from None
    except OSError as error:
        raise MarserveError(f"cannot read {path}: {error.strerror or error}") from None
    # RuntimeError: an encrypted member. The others: what unpacking and parsing run into on damaged bytes.
    except (zipfile.BadZipFile, EOFError, RuntimeError, zlib.error, lzma.LZMAError, struct.error) as error:
        raise MarserveError(f"{path} is not a readable archive ({error}): export or copy it again") from None
    except (LookupError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MarserveError(f"{path} is not a TorchServe archive: {reason}") from None


def _section(value: Any, where: str) -> dict[str, Any]:
    """A parsed mapping; nothing at all is an empty one. Raises TypeError for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{where} is no section of keys and values")
    return value


def _changed(archive: zipfile.ZipFile) -> tuple[str, ...]:
    digests = _section(json.loads(archive.read(DIGESTS)), DIGESTS)
    names = {name for name in archive.namelist() if not name.endswith("/")}
    changed = {
        name
        for name, digest in digests.items()
        if name not in names or hashlib.sha256(archive.read(name)).hexdigest() != digest
    }
    return tuple(sorted(changed | (names - set(digests) - {DIGESTS})))


def read_intact(path: Path) -> Archive:
    """As `read_archive`; raises MarserveError for files that are not the ones that were packed, too."""
    archive = read_archive(path)
    if archive.changed:
        raise MarserveError(
            f"{archive.path} is damaged: {', '.join(archive.changed)} differ from digests.json; export it again"
        )
    return archive


def find_archives(model_store: Path, wanted: list[str], read: Callable[[Path], Archive] = read_intact) -> list[Archive]:
    """As `sort_out`; raises MarserveError for the first archive that cannot be served, too."""
    archives, failures = sort_out(model_store, wanted, read)
    if failures:
        raise MarserveError(failures[0].reason)
    return archives


def sort_out(
    model_store: Path, wanted: list[str], read: Callable[[Path], Archive] = read_intact
) -> tuple[list[Archive], list[Failure]]:
    """The archives of a model store, all or those named (`captcha_image` or `captcha_image.mar`), in order.

    `read` decides which may be served; beside them are those that cannot be. Raises MarserveError for an empty store,
    or a name that is not there.
    """
    if not model_store.is_dir():
        raise MarserveError(f"the model store {model_store} is not a folder; name another with --model-store")
    paths = {path.stem: path for path in sorted(model_store.glob("*.mar"))}
    if not paths:
        raise MarserveError(f"{model_store} holds no .mar archive; make one with `python -m export`")
    names = [name.removesuffix(".mar") for name in wanted] or list(paths)
    if missing := [name for name in names if name not in paths]:
        raise MarserveError(f"no {', '.join(missing)} in {model_store}; it has {', '.join(paths)}")
    found: dict[tuple[str, str], Archive] = {}
    failures = []
    for name in dict.fromkeys(names):
        try:
            archive = _read_new(paths[name], found, read)
            found[archive.name, archive.version] = archive
        except MarserveError as error:
            failures.append(Failure(paths[name].name, "", "", str(error), REFUSED))
    return list(found.values()), failures


def _read_new(path: Path, found: Mapping[tuple[str, str], Archive], read: Callable[[Path], Archive]) -> Archive:
    """One that TorchServe can serve beside those that were found before. Raises MarserveError."""
    if not _NAME.fullmatch(path.stem):
        raise MarserveError(f"{path}: TorchServe takes only letters, digits, '.', '_' and '-' in a file's name")
    archive = read(path)
    if same := found.get((archive.name, archive.version)):
        raise MarserveError(
            f"{path} holds the same version of the same model as {same.path.name}, {archive.name} {archive.version}: "
            "remove one of them, or choose with --models"
        )
    return archive
