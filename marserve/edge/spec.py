"""edge.yaml as frozen records, checked once. Knows neither HAProxy nor processes."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from marserve.errors import MarserveError
from marserve.settings import Address

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"  # archive.py lets no other be served
STICKY_NAME = r"[A-Za-z0-9_.-]{1,64}"  # not all that a header or a cookie may have
PERMITS = ("cleartext", "anonymous", "metrics")
STDOUT = "-"
DEFAULT_PORT = 8090
# As far from each other as a server's own, so that --port moves both alike.
DEFAULT_REST = Address("127.0.0.1", DEFAULT_PORT)
DEFAULT_GRPC = Address("127.0.0.1", DEFAULT_PORT - 1010)
DEFAULT_METRICS = Address("127.0.0.1", DEFAULT_PORT + 2)


def _within(default: float, low: float, high: float) -> Any:
    """A field with its default and what it may be; whole numbers where the default is one."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take. Times are in seconds."""

    connections: int = _within(1000, 10, 100_000)
    connections_per_client: int = _within(100_000, 1, 100_000)  # of one address; no limit by default
    body_bytes: int = _within(16 * 2**20, 1024, 64 * 2**20)
    header_bytes: int = _within(7168, 1024, 7168)  # TorchServe's own limit is 8192, and the edge adds some
    header_seconds: float = _within(10.0, 0.1, 3600)  # until the headers are there
    body_seconds: float = _within(30.0, 0.1, 3600)  # until the body is there, since its headers are
    idle_seconds: float = _within(60.0, 0.1, 3600)  # of a connection between two requests
    drain_seconds: float = _within(30.0, 0.1, 3600)  # that requests get to end when the edge stops


@dataclass(frozen=True, slots=True)
class Model:
    """What is waiting for one model at most, over REST and over gRPC each. Times are in seconds."""

    in_flight: int = _within(48, 1, 100_000)  # requests that TorchServe has
    queue: int = _within(64, 1, 100_000)  # requests that wait at the edge
    queue_seconds: float = _within(2.0, 0.01, 3600)
    reply_seconds: float = _within(30.0, 0.1, 3600)  # above the responseTimeout of the model's spec


@dataclass(frozen=True, slots=True)
class Sticky:
    """What tells a client's session, so that all of it goes to one version: a header, else a cookie."""

    header: str = "X-Session-ID"
    cookie: str = "session"


@dataclass(frozen=True, slots=True)
class Spec:
    """The whole file. Paths are absolute, or relative to the working directory."""

    rest: Address = DEFAULT_REST
    grpc: Address = DEFAULT_GRPC
    metrics: Address = DEFAULT_METRICS
    certificate: Path | None = None  # PEM: the certificate, its chain and its private key
    keys: Path | None = None
    permit: tuple[str, ...] = ()
    access_log: Path | None = None  # None: in the run folder; STDOUT
    sticky: Sticky = field(default_factory=Sticky)
    limits: Limits = field(default_factory=Limits)
    model: Model = field(default_factory=Model)  # of every model that `models` does not name
    models: Mapping[str, Model] = field(default_factory=dict)

    def listening(self) -> tuple[Address, ...]:
        return (self.rest, self.grpc, self.metrics)

    def moved(self, port: int | None) -> Spec:
        """REST on `port`, and the other two as far away from it as before. Raises MarserveError."""
        if port is None:
            return self
        shift = port - self.rest.port
        moved = [Address(address.host, address.port + shift) for address in self.listening()]
        for address in moved:
            if not 1 <= address.port <= 65535:
                raise MarserveError(f"port {address.port} is out of range: choose another --port")
        return replace(self, rest=moved[0], grpc=moved[1], metrics=moved[2])

    def with_models(self, names: list[str]) -> Spec:
        """Every one of these models gets a queue of its own, with the limits that the file has for it."""
        return replace(self, models={**dict.fromkeys(names, self.model), **self.models})


def read_spec(path: Path) -> Spec:
    """Raises MarserveError naming the key that is wrong, and what it may be."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise MarserveError(f"cannot read the edge's settings {path}: {reason}") from None
    try:
        return parse_spec(content, path.parent)
    except MarserveError as error:
        raise MarserveError(f"{path}: {error}") from None


def parse_spec(content: Any, folder: Path) -> Spec:
    """What YAML made of the file -> the record; `folder` is what its paths are relative to. Raises MarserveError."""
    known = {"listen", "tls", "keys", "permit", "access_log", "sticky", "limits", "model", "models"}
    top = _section(content, "the file", known)
    listen = _section(top.get("listen"), "listen", {"rest", "grpc", "metrics"})
    addresses = {name: _address(text, f"listen.{name}") for name, text in listen.items()}
    tls = _section(top.get("tls"), "tls", {"certificate"})
    if "tls" in top and "certificate" not in tls:
        raise MarserveError("tls must have a certificate: a PEM file with certificate, chain and private key")
    log = top.get("access_log")
    model = _record(Model(), top.get("model"), "model")
    models = _section(top.get("models"), "models", None)
    for name in models:
        if not re.fullmatch(MODEL_NAME, name):
            raise MarserveError(f"models: {name!r} is no model's name")
    spec = Spec(
        **addresses,
        certificate=_path(tls.get("certificate"), "tls.certificate", folder),
        keys=_path(top.get("keys"), "keys", folder),
        permit=_permit(top.get("permit")),
        access_log=Path(STDOUT) if log == STDOUT else _path(log, "access_log", folder),
        sticky=_sticky(top.get("sticky")),
        limits=_record(Limits(), top.get("limits"), "limits"),
        model=model,
        models={name: _record(model, value, f"models.{name}") for name, value in models.items()},
    )
    _check(spec)
    return spec


def _check(spec: Spec) -> None:
    """What makes sense only together, above all what is open to other machines."""
    if len({address.port for address in spec.listening()}) < len(spec.listening()):
        raise MarserveError("listen: rest, grpc and metrics need three ports")
    missing = []
    if any(not _is_loopback(address) for address in (spec.rest, spec.grpc)):
        missing += ["cleartext"] if spec.certificate is None else []
        missing += ["anonymous"] if spec.keys is None else []
    missing += [] if _is_loopback(spec.metrics) else ["metrics"]
    if refused := [word for word in missing if word not in spec.permit]:
        needs = {"cleartext": "tls", "anonymous": "keys", "metrics": "a loopback address"}
        raise MarserveError(
            f"listen: other machines could reach it without {' and '.join(needs[word] for word in refused)}; "
            f"set that, or `permit: [{', '.join(missing)}]` if that is what you want"
        )


def _is_loopback(address: Address) -> bool:
    return ipaddress.ip_address(address.host).is_loopback


def _permit(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or any(word not in PERMITS for word in value):
        raise MarserveError(f"permit must be a list of any of {', '.join(PERMITS)}, not {value!r}")
    return tuple(value)


def _sticky(value: Any) -> Sticky:
    names = _section(value, "sticky", {"header", "cookie"})
    for key, name in names.items():
        if not isinstance(name, str) or not re.fullmatch(STICKY_NAME, name):
            raise MarserveError(f"sticky.{key} must be a name of up to 64 letters, digits and _ . -, not {name!r}")
    return replace(Sticky(), **names)


def _address(value: Any, where: str) -> Address:
    try:
        parts = urlsplit(f"//{value}")
        host, port = str(ipaddress.ip_address(parts.hostname or "")), parts.port
    except ValueError:
        host, port = "", None
    if not host or not port or set("%@") & set(parts.netloc) or parts.netloc != str(value):
        raise MarserveError(f"{where} must be an IP address and a port, like 127.0.0.1:8090, not {value!r}")
    return Address(host, port)


def _path(value: Any, where: str, folder: Path) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or not value.isprintable():
        raise MarserveError(f"{where} must be the path of a file, not {value!r}")
    return folder / value


def _record(defaults: Any, value: Any, where: str) -> Any:
    """The same record with the file's numbers in it."""
    fields = {entry.name: entry for entry in dataclasses.fields(defaults)}
    section = _section(value, where, set(fields))
    for key, number in section.items():
        entry = fields[key]
        whole = isinstance(entry.default, int)
        low, high = entry.metadata["low"], entry.metadata["high"]
        if type(number) not in ((int,) if whole else (int, float)) or not low <= number <= high:
            kind = "a whole number" if whole else "a number"
            raise MarserveError(f"{where}.{key} must be {kind} from {low} to {high}, not {number!r}")
    return replace(defaults, **section)


def _section(value: Any, where: str, known: set[str] | None) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise MarserveError(f"{where} must be a section of keys and values")
    if known is not None and (unknown := sorted(set(value) - known)):
        raise MarserveError(f"{where} has unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return dict(value)
