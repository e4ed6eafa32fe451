"""What a server serves, kept over its end: a file per REST port, from which the next one comes back the same.

It holds how the server differs from its model store: what was registered, unregistered, scaled or made the default
over TorchServe's management API meanwhile. What fails stays there as it was, and is tried again by the next one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from marserve.archive import Archive, read_intact, sort_out
from marserve.errors import MarserveError
from marserve.failures import Failure, nothing_left
from marserve.management import SETTINGS, Version

Key = tuple[str, str]  # a model and its version


@dataclass(frozen=True, slots=True)
class Kept:
    """One version that was served. `settings` are those that its archive and the overrides did not say."""

    model: str
    version: str
    archive: str  # the file's name in the store
    default: bool
    settings: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class State:
    archives: Mapping[str, str]  # every file that was served at some time, and its SHA-256
    versions: Sequence[Kept]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to serve, and how that differs from what the archives and overrides say."""

    archives: list[Archive]
    settings: Mapping[Key, Mapping[str, int]] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)  # version by model
    left_out: Sequence[Path] = ()  # archives that were unregistered
    said: Sequence[str] = ()  # the differences in words
    failures: Sequence[Failure] = ()  # archives that were refused
    state: State | None = None  # what it was made from

    def default_without(self, model: str, failed: Container[str]) -> str | None:
        """The version to be the default without those: the last of those that were served before, or the first."""
        served = [version for name, version in self.settings if name == model and version not in failed]
        others = [one.version for one in self.archives if one.name == model and one.version not in failed]
        return next(iter(served[-1:] + others), None)


class StateFile:
    """`$XDG_STATE_HOME/marserve/PORT.json` or `~/.local/state/marserve/PORT.json`, for this user's eyes only."""

    def __init__(self, port: int, model_store: Path, path: Path | None = None) -> None:
        self.path = path or folder() / f"{port}.json"
        self._store = str(model_store.resolve())

    def read(self) -> State | None:
        """None where there is nothing, or nothing of this model store. Raises MarserveError for what it cannot read."""
        try:
            content = json.loads(self.path.read_bytes())
            if content["model_store"] != self._store:
                return None
            versions = tuple(_kept(entry) for entry in content["versions"])
            archives = {str(name): str(digest) for name, digest in content["archives"].items()}
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MarserveError(f"cannot read {self.path}: {error.strerror}; --fresh does without") from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise MarserveError(f"{self.path} is damaged: --fresh starts without it, and replaces it") from None
        return State(archives, versions)

    def write(self, state: State) -> None:
        """Whole or not at all, also when the machine fails meanwhile. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"model_store": self._store, **asdict(state)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)


class Keeper:
    """Writes the file whenever what is served has changed. `plain` are settings without what was changed meanwhile."""

    def __init__(self, file: StateFile, started: Plan, plain: Mapping[Key, Mapping[str, int]]) -> None:
        self._file = file
        self._paths = {path.name: path for path in (*(one.path for one in started.archives), *started.left_out)}
        self._before = started.state or State({}, ())  # where what has failed since is to be found
        self._failed: set[str] = set()  # files
        self._stand_ins: dict[str, str] = {}  # default version by model, in the place of one that has failed
        self._chosen: set[str] = set()  # models that have had another default since
        self._store = started.archives[0].path.parent
        self._plain = plain
        self._digests: dict[str, str] = {}
        self._known: set[Key] = set()
        self._defaults: dict[str, str] = {}  # version by model
        self._written: State | None = None
        self.last: State | None = None  # what was served when it was seen last, whether it could be written or not
        self.failure = ""  # why the file could not be written

    def spare(self, failures: Iterable[Failure]) -> None:
        """These stay in the file as they are there now, until they are served: to the next start others are new."""
        self._before = self._written or self._before
        self._failed |= {failure.archive for failure in failures}

    def keep(self, versions: Iterable[Version]) -> None:
        """A version counts from when one of its workers is ready, or when it wants none; as the default too."""
        served = {(one.model, one.version): one for one in versions}
        ready = {key for key, one in served.items() if one.ready or one.settings["minWorkers"] == 0}
        for key in ready - self._known:
            self._digests.pop(Path(served[key].archive).name, None)  # it may have been replaced since it was served
        self._known = (self._known | ready) & set(served)
        self._defaults |= {model: version for model, version in self._known if served[model, version].default}
        kept = [self._differences(served[key]) for key in sorted(self._known)]
        self._failed -= {one.archive for one in kept}
        self._paths |= {one.archive: self._store / one.archive for one in kept}
        files = [name for name in sorted(self._paths) if name not in self._failed]
        self.last = State({name: self._digest(self._paths[name]) for name in files}, kept)
        if (state := self._with_failed(self.last)) != self._written:
            try:
                self._file.write(state)
                self._written, self.failure = state, ""
            except OSError as error:  # a full disk is no reason to serve nothing; it is tried again
                self.failure = f"cannot write {self._file.path}: {error.strerror}"

    def _with_failed(self, served: State) -> State:
        """With what was known of files that have failed, which may be the default again if they get ready."""
        archives = {name: digest for name, digest in self._before.archives.items() if name in self._failed}
        failed = [one for one in self._before.versions if one.archive in self._failed]
        waiting = {one.model for one in failed if one.default and self._is_waited_for(one.model)}
        return State(
            {**served.archives, **archives},
            [replace(one, default=one.default and one.model not in waiting) for one in served.versions]
            + [replace(one, default=one.default and one.model in waiting) for one in failed],
        )

    def _is_waited_for(self, model: str) -> bool:
        """Whether nobody has chosen another default than the one that came in the place of the failed one."""
        now = self._defaults.get(model, "")
        if self._stand_ins.setdefault(model, now) != now:
            self._chosen.add(model)
        return model not in self._chosen

    def _differences(self, one: Version) -> Kept:
        usual = self._plain.get((one.model, one.version), {})
        settings = {key: value for key, value in one.settings.items() if usual.get(key) != value}
        default = self._defaults.get(one.model) == one.version
        return Kept(one.model, one.version, Path(one.archive).name, default, settings)

    def _digest(self, path: Path) -> str:
        """Of the file as it was when a version of it was first seen."""
        if path.name not in self._digests:
            self._digests[path.name] = digest(path)
        return self._digests[path.name]


def plan(
    model_store: Path,
    names: list[str],
    state: State | None,
    read: Callable[[Path], Archive] = read_intact,
    strict: bool = False,
) -> Plan:
    """The archives named, or all; with a state, those of them that were served, as they were, and those that are new.

    Raises MarserveError as `sort_out` does, and where all of them are refused, with `strict` where any is.
    """
    if state is None:
        archives, failures = _some(sort_out(model_store, names, read), strict)
        return Plan(archives, failures=failures)
    paths = {path.name: path for path in sorted(model_store.glob("*.mar")) if not names or path.name in names}
    if names and not paths:
        raise MarserveError(f"nothing is left in {model_store} of {', '.join(names)}")
    same = {name for name, path in paths.items() if digest(path) == state.archives.get(name)}
    known = [kept for kept in state.versions if kept.archive in same]
    left_out = [paths[name] for name in sorted(same - {kept.archive for kept in known})]
    if paths and len(left_out) == len(paths):
        raise MarserveError(f"every model of {model_store} was unregistered: --fresh serves them all again")
    # What was served comes first: it is another file with the same version that is refused.
    wanted = sorted((path for path in paths.values() if path not in left_out), key=lambda path: path.name not in same)
    found, failures = _some(sort_out(model_store, [path.stem for path in wanted], read), strict)
    own = {archive.path.name: archive for archive in found}
    served = [kept for kept in known if kept.archive in own]
    archives = [archive for archive in found if archive.path.name not in same]
    archives += [replace(own[kept.archive], name=kept.model) for kept in served]
    defaults = {kept.model: kept.version for kept in sorted(served, key=lambda kept: kept.default)}
    said = [_describe(kept, own[kept.archive].name) for kept in served]
    said += [
        f"{model} {version} as the default"
        for model, version in defaults.items()
        if sum(archive.name == model for archive in archives) > 1
    ]
    said += [f"{name} as it is now" for name in sorted(set(state.archives) & set(own) - same)]
    said += [f"without {path.name}" for path in left_out]
    gone = {kept.archive for kept in state.versions} - set(paths)
    said += [f"without {name}, which is gone" for name in sorted(gone)]
    settings = {(kept.model, kept.version): kept.settings for kept in served}
    return Plan(archives, settings, defaults, left_out, list(filter(None, said)), failures, state)


def _some(found: tuple[list[Archive], list[Failure]], strict: bool) -> tuple[list[Archive], list[Failure]]:
    """Raises MarserveError where there is nothing among it to serve; with `strict` for the first that was refused."""
    archives, failures = found
    if not archives or (strict and failures):
        raise nothing_left(failures[:1] if strict else failures)
    return found


def digest(path: Path) -> str:
    """SHA-256; empty for a file that cannot be read, which no other is equal to."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def folder() -> Path:
    """Of what outlives a server."""
    return Path(os.environ.get("XDG_STATE_HOME") or _default_folder(), "marserve").absolute()


def _default_folder() -> Path:
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError:  # a user without a home
        return Path("/nonexistent")


def _describe(kept: Kept, name: str) -> str:
    """How it differs from an archive whose model has that name; nothing where it does not."""
    origin = f" from {kept.archive}" if kept.model != name else ""
    changes = ", ".join(f"{key} {value}" for key, value in kept.settings.items())
    if len(kept.settings) == len(SETTINGS):  # it was not there when its server started
        changes = "what it was registered with"
    what = f"{origin}{f' with {changes}' if changes else ''}"
    return f"{kept.model} {kept.version}{what}" if what else ""


def _kept(entry: Mapping[str, Any]) -> Kept:
    kept = Kept(**entry)
    texts = (kept.model, kept.version, kept.archive)
    if not all(isinstance(text, str) for text in texts) or not isinstance(kept.default, bool):
        raise TypeError("text was expected")
    if not all(key in SETTINGS and type(value) is int and value >= 0 for key, value in kept.settings.items()):
        raise TypeError("settings are numbers")
    return kept
