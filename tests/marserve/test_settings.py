"""config.properties: what is read, where the ports go, and what is refused."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import MarserveError
from marserve.settings import (
    Address,
    Addresses,
    address_properties,
    addresses,
    check_free,
    free_loopback,
    read_properties,
    write_properties,
)
from tests.export.models import ROOT
from tests.marserve.conftest import PATIENT

PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=30)
HOSTS = st.sampled_from(["127.0.0.1", "localhost", "0.0.0.0", "::1", "fe80::1", "a.example.org"])  # noqa: S104


def listening(*ports: int) -> Addresses:
    return Addresses(*(Address("127.0.0.1", port) for port in ports))


def test_the_shipped_file_is_the_defaults() -> None:
    properties = read_properties(ROOT / "config.properties")
    assert addresses(properties) == addresses({}) == listening(8080, 8081, 8082, 7070, 7071)
    assert properties["enable_model_api"] == "true"
    # Only the first `=` divides.
    assert properties["vmargs"] == "-XX:+UseSerialGC -Xmx512m -XX:+UseTransparentHugePages"


def test_comments_blank_lines_and_spaces(tmp_path: Path) -> None:
    path = tmp_path / "config.properties"
    path.write_text("# one\n\n  # two=2\n a = b c \nempty=\na=last\n")
    assert read_properties(path) == {"a": "last", "empty": ""}


@pytest.mark.parametrize("content", ["a=1\nnonsense\n", "a=1\n  nonsense  "])
def test_a_line_without_a_value_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.properties"
    path.write_text(content)
    with pytest.raises(MarserveError, match=r"config\.properties, line 2: expected key=value, found 'nonsense'"):
        read_properties(path)


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "binary"):
        with pytest.raises(MarserveError, match="cannot read the configuration"):
            read_properties(path)


@PATIENT
@given(st.dictionaries(PRINTABLE.filter(lambda key: key and "=" not in key and key[0] != "#"), PRINTABLE))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, properties: dict[str, str]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.properties"
    write_properties(path, properties)
    assert read_properties(path) == properties


@PATIENT
@given(st.lists(st.tuples(HOSTS, st.integers(1, 65535)), min_size=5, max_size=5, unique_by=lambda pair: pair[1]))
def test_addresses_survive_as_properties(pairs: list[tuple[str, int]]) -> None:
    found = Addresses(*(Address(host, port) for host, port in pairs))
    assert addresses(address_properties(found)) == found


def test_a_port_moves_all_five() -> None:
    assert addresses({}, 9000) == listening(9000, 9001, 9002, 7990, 7991)
    moved = addresses({"inference_address": "http://127.0.0.1:5000", "grpc_inference_port": "6000"}, 5010)
    assert moved == listening(5010, 8091, 8092, 6010, 7081)


@PATIENT
@given(st.integers(1100, 64000))
def test_a_moved_configuration_is_found_again(port: int) -> None:
    moved = addresses({}, port)
    assert moved.rest.port == port
    assert addresses(address_properties(moved), 8080) == addresses({})


@pytest.mark.parametrize(("port", "named"), [(1000, -10), (1010, 0), (65534, 65536)])
def test_out_of_range(port: int, named: int) -> None:
    with pytest.raises(MarserveError, match=f"port {named} is out of range"):
        addresses({}, port)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inference_address", "127.0.0.1:8080"),
        ("inference_address", "https://127.0.0.1:8443"),
        ("inference_address", "http://127.0.0.1"),
        ("inference_address", "http://127.0.0.1:many"),
        ("inference_address", "http://127.0.0.1:70000"),
        ("inference_address", "http://[::1:80"),
        ("inference_address", "http://:80"),
        ("management_address", ""),
        ("metrics_address", "unix:/tmp/metrics.sock"),
        ("grpc_inference_port", "many"),
        ("grpc_inference_port", "-1"),
        ("grpc_inference_port", ""),
        ("grpc_inference_port", "٣٤"),
        ("grpc_management_port", "9" * 5000),
    ],
)
def test_no_address(key: str, value: str) -> None:
    with pytest.raises(MarserveError, match=f"^{key} must "):
        addresses({key: value})


def test_the_same_port_twice() -> None:
    with pytest.raises(MarserveError, match="two services the same port"):
        addresses({"management_address": "http://127.0.0.1:8080"})


def test_free_and_taken_ports() -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(5)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in sockets]
        for one in sockets[:3]:
            one.close()
        sockets[3].listen()
        sockets[4].listen()
        with pytest.raises(MarserveError) as caught:
            check_free(listening(*ports).all())
        message = str(caught.value)
        assert f"cannot listen on 127.0.0.1:{ports[3]} (" in message
        assert f", 127.0.0.1:{ports[4]} (" in message
        assert not any(f":{port} " in message for port in ports[:3])
        sockets[3].close()
        sockets[4].close()
        check_free(listening(*ports).all())


def test_a_host_that_is_not_this_machine() -> None:
    with pytest.raises(MarserveError, match=r"cannot listen on 192\.0\.2\.1:9"):
        check_free([Address("192.0.2.1", 9000)])


def test_a_free_port() -> None:
    found = free_loopback()
    with socket.socket() as one:
        one.bind((found.host, found.port))
        one.listen()
        assert free_loopback() != found
