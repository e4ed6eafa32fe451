"""TorchServe's config.properties: read, moved to other ports, written. Knows nothing of processes."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from marserve.errors import MarserveError

DEFAULT_PORT = 8080
REQUIRE_SIGNATURE = "require_signature"  # a key of marserve's own, which TorchServe does not get


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where one server listens."""

    rest: Address
    management: Address
    metrics: Address
    grpc: Address
    grpc_management: Address

    def all(self) -> tuple[Address, ...]:
        return (self.rest, self.management, self.metrics, self.grpc, self.grpc_management)


def read_properties(path: Path) -> dict[str, str]:
    """`key=value` lines; `#` starts a comment. Raises MarserveError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MarserveError(f"cannot read the configuration {path}: {error}") from None
    properties = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise MarserveError(f"{path}, line {number}: expected key=value, found {line.strip()!r}")
        properties[key.strip()] = value.strip()
    return properties


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """For TorchServe."""
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items() if key != REQUIRE_SIGNATURE))


def addresses(properties: Mapping[str, str], port: int | None = None) -> Addresses:
    """The five addresses of a configuration; `port` moves REST there and the others by the same distance.

    Raises MarserveError for an address that is no http://host:port, or a port out of range.
    """
    rest = _http(properties, "inference_address", DEFAULT_PORT)
    shift = 0 if port is None else port - rest.port
    found = Addresses(
        rest=_moved(rest, shift),
        management=_moved(_http(properties, "management_address", 8081), shift),
        metrics=_moved(_http(properties, "metrics_address", 8082), shift),
        grpc=_moved(_grpc(properties, "grpc_inference", 7070), shift),
        grpc_management=_moved(_grpc(properties, "grpc_management", 7071), shift),
    )
    if len({address.port for address in found.all()}) < len(found.all()):
        raise MarserveError("the configuration gives two services the same port")
    return found


def address_properties(found: Addresses) -> dict[str, str]:
    return {
        "inference_address": found.rest.url,
        "management_address": found.management.url,
        "metrics_address": found.metrics.url,
        "grpc_inference_address": found.grpc.host,
        "grpc_inference_port": str(found.grpc.port),
        "grpc_management_address": found.grpc_management.host,
        "grpc_management_port": str(found.grpc_management.port),
    }


def check_free(found: Sequence[Address], patience: float = 0) -> None:
    """Raise MarserveError naming every port that something else listens on, also after so many seconds."""
    deadline = time.monotonic() + patience
    while taken := _taken(found):
        if time.monotonic() >= deadline:
            raise MarserveError(f"cannot listen on {', '.join(taken)}: stop what is there, or choose another --port")
        time.sleep(0.1)


def _taken(found: Sequence[Address]) -> list[str]:
    taken = []
    for address in found:
        with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
            except OSError as error:
                taken.append(f"{address} ({error.strerror})")
    return taken


def free_loopback() -> Address:
    """An address that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", probe.getsockname()[1])


def _http(properties: Mapping[str, str], key: str, default: int) -> Address:
    text = properties.get(key, f"http://127.0.0.1:{default}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or not parts.hostname or port is None:
        raise MarserveError(f"{key} must look like http://127.0.0.1:{default}, not {text!r}")
    return Address(parts.hostname, port)


def _grpc(properties: Mapping[str, str], prefix: str, default: int) -> Address:
    text = properties.get(f"{prefix}_port", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        raise MarserveError(f"{prefix}_port must be a number, not {text!r}")
    return Address(properties.get(f"{prefix}_address", "127.0.0.1").strip("[]"), int(text))


def _moved(address: Address, shift: int) -> Address:
    port = address.port + shift
    if not 1 <= port <= 65535:
        raise MarserveError(f"port {port} is out of range: choose a --port between 1100 and 65000")
    return Address(address.host, port)
