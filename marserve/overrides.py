"""NAME.overrides.yaml: a model's settings for this machine, in the words of its spec. The archive stays as it is.

TorchServe reads an archive's own YAML only. Its keys are replaced through a snapshot, the form in which it restores
models (registered over its management API a version gets the YAML's workers and timeouts, whatever is asked for).
`handler.network` is replaced by the workers, who find it in their environment.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from marserve.archive import Archive
from marserve.errors import MarserveError
from marserve.state import Plan

ENVIRONMENT = "MARSERVE_OVERRIDES"
SUFFIX = ".overrides.yaml"
# What may be overridden, and what TorchServe takes where nothing says otherwise.
SERVER = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "maxBatchDelay": 100}
NETWORK = {"chunk": 4, "threads": 1}
TIMEOUTS = {"responseTimeout": 120, "startupTimeout": 120}  # seconds
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Overrides:
    """Keys and values that replace the archive's; `path` is where they were read."""

    path: Path
    server: Mapping[str, int] = field(default_factory=dict)
    network: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.server or self.network)

    def describe(self, archive: Archive) -> str:
        """`batchSize 64 (shipped: 32), chunk 8 (shipped: 4)`."""
        shipped = {**shipped_server(archive), **shipped_network(archive)}
        return ", ".join(
            f"{key} {value} (shipped: {shipped[key]})" for key, value in {**self.server, **self.network}.items()
        )


def shipped_server(archive: Archive) -> dict[str, int]:
    """What the archive itself says to TorchServe."""
    return {key: _shipped(archive.config, key, default) for key, default in SERVER.items()}


def shipped_network(archive: Archive) -> dict[str, int]:
    """What it says to its workers; nothing for a model without a network, or that marserve did not make."""
    network = archive.handler.get("network")
    return {key: _shipped(network, key, default) for key, default in NETWORK.items()} if network else {}


def obeys_network(archive: Archive) -> bool:
    """Whether the handlers inside look for overrides: those of earlier archives would ignore them in silence."""
    return "entry.py" in archive.files and ENVIRONMENT.encode() in archive.read("entry.py")


def check_folder(folder: Path) -> None:
    """Raises MarserveError where there is none."""
    if not folder.is_dir():
        raise MarserveError(f"{folder} is no folder with overrides")


def find_overrides(folder: Path, archives: Sequence[Archive]) -> dict[str, Overrides]:
    """By model, those that `folder` has for any of the archives and that change something. Raises MarserveError."""
    check_folder(folder)
    found = {}
    for archive in archives:
        path = folder / f"{archive.name}{SUFFIX}"
        if path.exists() and (overrides := read_overrides(path, archive)):
            found[archive.name] = overrides
    return found


def with_overrides(read: Callable[[Path], Archive], folder: Path | None) -> Callable[[Path], Archive]:
    """As `read`, which is to raise MarserveError also for an archive that its overrides in that folder do not fit."""

    def checked(path: Path) -> Archive:
        archive = read(path)
        if folder:
            find_overrides(folder, [archive])
        return archive

    return checked


def read_overrides(path: Path, archive: Archive) -> Overrides:
    """Read and check one file against its archive. Raises MarserveError naming the key that is wrong."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise MarserveError(f"cannot read the overrides {path}: {reason}") from None
    top = _section(content, path, "the file", {*SERVER, "handler"})
    handler = _section(top.pop("handler", None), path, "handler", {"network"})
    network = _section(handler.get("network"), path, "handler.network", set(NETWORK))
    for where, section in (("", top), ("handler.network.", network)):
        for key, value in section.items():
            if type(value) is not int or not 1 <= value <= MOST:
                raise MarserveError(f"{path}: {where}{key} must be a whole number from 1 to {MOST}, not {value!r}")
    workers = {**shipped_server(archive), **top}
    if workers["minWorkers"] > workers["maxWorkers"]:
        raise MarserveError(
            f"{path}: minWorkers ({workers['minWorkers']}) exceeds maxWorkers ({workers['maxWorkers']}): set both"
        )
    if network and not shipped_network(archive):
        raise MarserveError(f"{path}: {archive.name} has no network whose {', '.join(network)} could be set")
    if network and not obeys_network(archive):
        raise MarserveError(
            f"{path}: the handlers in {archive.path} are older than overrides of handler.network: pack it again "
            f"(`python -m export {archive.name} --archive {archive.path}`), or remove that section"
        )
    return Overrides(path, top, network)


def write_overrides(overrides: Overrides, comment: Sequence[str]) -> None:
    """Write `overrides.path`, whole or not at all, below so many lines of comment. Raises MarserveError."""
    content: dict[str, Any] = dict(overrides.server)
    if overrides.network:
        content["handler"] = {"network": dict(overrides.network)}
    text = "".join(f"# {line}\n" for line in comment)
    text += yaml.safe_dump(content, sort_keys=False) if content else ""
    part = overrides.path.with_name(f"{overrides.path.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_text(text)
        part.replace(overrides.path)
    except OSError as error:
        raise MarserveError(f"cannot write {overrides.path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def environment(overrides: Mapping[str, Overrides]) -> dict[str, str]:
    """For the workers."""
    networks = {name: dict(one.network) for name, one in overrides.items() if one.network}
    return {ENVIRONMENT: json.dumps(networks)} if networks else {}


def settings(archive: Archive, overrides: Mapping[str, Overrides], properties: Mapping[str, str]) -> dict[str, int]:
    """What TorchServe is told of one archive: its own keys, replaced by overrides, and the configuration's defaults."""
    workers = _number(properties, "default_workers_per_model", os.cpu_count() or 1)
    defaults = {**SERVER, "minWorkers": workers, "maxWorkers": workers}
    defaults |= {key: _number(properties, f"default_{_snake(key)}", value) for key, value in TIMEOUTS.items()}
    own = {key: _shipped(archive.config, key, default) for key, default in defaults.items()}
    return {**own, **(overrides[archive.name].server if archive.name in overrides else {})}


def snapshot(plan: Plan, overrides: Mapping[str, Overrides], properties: Mapping[str, str]) -> str:
    """TorchServe's `model_snapshot` with every archive, since it then loads nothing else. Raises MarserveError."""
    if "models" in properties:
        raise MarserveError("`models=` in the configuration and overrides exclude each other: use --no-overrides")
    models: dict[str, dict[str, Any]] = {}
    for archive in plan.archives:
        versions = models.setdefault(archive.name, {})
        changed = plan.settings.get((archive.name, archive.version), {})
        default = plan.defaults.get(archive.name, next(iter(versions), archive.version)) == archive.version
        versions[archive.version] = {"defaultVersion": default, "marName": archive.path.name}
        versions[archive.version] |= {**settings(archive, overrides, properties), **changed}
    return json.dumps({"name": "marserve", "modelCount": len(models), "models": models})


def _shipped(section: Mapping[str, Any], key: str, default: int) -> int:
    """As TorchServe reads it: what is no number above 0 counts as left out."""
    value = section.get(key)
    return value if type(value) is int and value > 0 else default


def _number(properties: Mapping[str, str], key: str, default: int) -> int:
    text = properties.get(key, "")
    return int(text) if text.isascii() and text.isdecimal() and int(text) else default


def _snake(key: str) -> str:
    """responseTimeout -> response_timeout"""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)


def _section(value: Any, path: Path, where: str, known: set[str]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MarserveError(f"{path}: {where} must be a section of keys and values")
    if unknown := sorted(str(key) for key in value if key not in known):
        raise MarserveError(
            f"{path}: {where} has unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    return dict(value)
