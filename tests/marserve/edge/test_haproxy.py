"""The configuration: HAProxy takes whatever a valid spec becomes, and nothing of it is what somebody else said."""

from __future__ import annotations

import string
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marserve.edge import process, refusals
from marserve.edge.haproxy import configuration
from marserve.edge.spec import Limits, Model, Spec, parse_spec
from marserve.errors import MarserveError
from marserve.settings import addresses
from tests.marserve.conftest import PATIENT
from tests.tools import need

SERVER = addresses({})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("haproxy")
    need("openssl")
    folder = tmp_path_factory.mktemp('it\'s a "folder" $HOME 100% #1')
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=x", "-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "edge.pem").write_bytes((folder / "certificate").read_bytes() + (folder / "key").read_bytes())
    (folder / "keys.map").touch()
    (folder / "rollouts.map").touch()
    return folder


def check(spec: Spec, folder: Path) -> str:
    """HAProxy takes it; the text."""
    text = configuration(spec, SERVER)
    (folder / "haproxy.cfg").write_text(text)
    process.check(folder / "haproxy.cfg")
    return text


def numbers(record: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A section with any of its keys, each within what it may be."""
    fields = {}
    for name, field in type(record).__dataclass_fields__.items():
        low, high = field.metadata["low"], field.metadata["high"]
        whole = isinstance(field.default, int)
        fields[name] = st.integers(low, high) if whole else st.floats(low, high)
    return st.fixed_dictionaries({}, optional=fields)


NAMES = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_letters + string.digits),
    st.text(string.ascii_letters + string.digits + "._-", max_size=127),
)
STICKY = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=64)
LISTEN = st.fixed_dictionaries(
    {},
    optional={
        "rest": st.sampled_from(["127.0.0.1:1", "[::1]:1", "0.0.0.0:1", "[2001:db8::1]:1"]),
        "grpc": st.sampled_from(["127.0.0.1:2", "[::]:2"]),
        "metrics": st.sampled_from(["127.0.0.1:3", "[::]:3"]),
    },
)
SPECS = st.fixed_dictionaries(
    {"permit": st.just(["cleartext", "anonymous", "metrics"])},
    optional={
        "listen": LISTEN,
        "tls": st.just({"certificate": "edge.pem"}),
        "keys": st.just("keys.json"),
        "sticky": st.fixed_dictionaries({}, optional={"header": STICKY, "cookie": STICKY}),
        "limits": numbers(Limits()),
        "model": numbers(Model()),
        "models": st.dictionaries(NAMES, numbers(Model()), max_size=3),
    },
)


@settings(PATIENT, max_examples=40)
@given(content=SPECS)
def test_haproxy_takes_every_valid_spec(folder: Path, content: dict[str, Any]) -> None:
    text = check(parse_spec(content, folder), folder)
    for name in content.get("models", {}):
        assert f"backend rest.{name}\n" in text
        assert f"backend grpc.{name}\n" in text
        assert f"backend rest.{name}:candidate\n" in text
        assert f"backend grpc.{name}:candidate\n" in text
    assert ("map_str(keys.map)" in text) == ("keys" in content)
    assert (" ssl crt " in text) == ("tls" in content)


def test_nothing_is_written_that_haproxy_warns_of(folder: Path) -> None:
    check(parse_spec({"tls": {"certificate": "edge.pem"}, "keys": "keys.json"}, folder), folder)
    command = [process.find_haproxy(), "-c", "-f", str(folder / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "WARNING" not in done.stderr


def test_root_locks_it_up() -> None:
    text = configuration(Spec(), SERVER, Path("/empty"))
    assert "\n  chroot /empty\n  user haproxy\n  group haproxy\n" in text
    assert "chroot" not in configuration(Spec(), SERVER)


def test_haproxys_own_reason_is_told(folder: Path) -> None:
    (folder / "nothing.pem").write_text("nothing")
    with pytest.raises(MarserveError, match=r"HAProxy refuses the configuration: .*nothing\.pem") as caught:
        check(parse_spec({"tls": {"certificate": "nothing.pem"}}, folder), folder)
    assert len(str(caught.value).splitlines()) == 1


def test_refusals_have_words_that_need_no_quoting_inside_converters() -> None:
    """OVERLOADED and UNAVAILABLE stand as arguments between commas and brackets, and in a log format."""
    for refusal in (refusals.OVERLOADED, refusals.UNAVAILABLE):
        assert not set(refusal.message + refusal.code) & set(",()%\"'\\")


def test_refusals_over_both() -> None:
    refusal = refusals.too_large(5)
    body = '{"error":{"code":"too_large","message":"a request may have 5 bytes at most"}}'
    assert refusal.rest() == f"status 413 content-type application/json string '{body}'"
    assert refusal.over_grpc() == "status 200 hdr grpc-status 8 hdr grpc-message 'a request may have 5 bytes at most'"
    assert refusals.OVERLOADED.rest().endswith(" hdr Retry-After 1")
