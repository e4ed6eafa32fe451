"""edge.yaml: what it may say, and what is told about what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from marserve.edge.spec import Limits, Model, Spec, Sticky, parse_spec, read_spec
from marserve.errors import MarserveError
from marserve.settings import Address
from marserve.terminal import plain
from tests.marserve.conftest import PATIENT
from tests.paths import ROOT

HERE = Path("/etc/marserve")
OPEN = {"rest": "0.0.0.0:8443"}
SAFE = {"tls": {"certificate": "edge.pem"}, "keys": "keys.json"}


def test_the_shipped_file_says_what_is_so_anyway() -> None:
    assert read_spec(ROOT / "edge.yaml") == Spec()


def test_nothing_is_a_file_too() -> None:
    assert parse_spec(None, HERE) == parse_spec({}, HERE) == Spec()
    assert {address.host for address in Spec().listening()} == {"127.0.0.1"}


def test_everything_that_can_be_said() -> None:
    text = """
    listen: {rest: "0.0.0.0:443", grpc: "[::]:444", metrics: 127.0.0.1:445}
    tls: {certificate: edge.pem}
    keys: /run/keys.json
    permit: [anonymous, cleartext, metrics]
    access_log: "-"
    sticky: {header: X-User, cookie: connect.sid}
    limits: {connections: 10, connections_per_client: 5, body_bytes: 1024, header_bytes: 1024, header_seconds: 1,
             body_seconds: 0.5, idle_seconds: 2, drain_seconds: 3}
    model: {in_flight: 1, queue: 2, queue_seconds: 0.1, reply_seconds: 4}
    models: {captcha_image: {queue: 5}, a-b.c: }
    """
    spec = parse_spec(yaml.safe_load(text), HERE)
    assert spec.listening() == (Address("0.0.0.0", 443), Address("::", 444), Address("127.0.0.1", 445))  # noqa: S104
    assert (spec.certificate, spec.keys, str(spec.access_log)) == (HERE / "edge.pem", Path("/run/keys.json"), "-")
    assert spec.sticky == Sticky("X-User", "connect.sid")
    assert spec.limits == Limits(10, 5, 1024, 1024, 1, 0.5, 2, 3)
    assert spec.models == {"captcha_image": Model(1, 5, 0.1, 4), "a-b.c": Model(1, 2, 0.1, 4)}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "the file must be a section of keys and values"),
        ({"listne": {}}, "the file has unknown keys: listne; known are access_log, keys, limits, listen,"),
        ({"limits": {"body": 1}}, "limits has unknown keys: body; known are body_bytes,"),
        ({"limits": 3}, "limits must be a section"),
        ({1: 2}, "the file must be a section"),
        ({"limits": {"body_bytes": 1.5}}, "limits.body_bytes must be a whole number from 1024 to 67108864, not 1.5"),
        ({"limits": {"body_bytes": True}}, "must be a whole number"),
        ({"limits": {"body_seconds": "3"}}, "limits.body_seconds must be a number from 0.1 to 3600, not '3'"),
        ({"limits": {"body_seconds": float("nan")}}, "must be a number"),
        ({"model": {"queue": 0}}, "model.queue must be a whole number from 1"),
        ({"models": {"x": {"queue": 0}}}, "models.x.queue must be"),
        ({"models": {"../x": {}}}, "'../x' is no model's name"),
        ({"models": {"x": 1}}, "models.x must be a section"),
        ({"listen": {"rest": "localhost:1"}}, "listen.rest must be an IP address and a port"),
        ({"listen": {"rest": "127.0.0.1"}}, "must be an IP address and a port"),
        ({"listen": {"rest": 8080}}, "must be an IP address and a port"),
        ({"listen": {"rest": "127.0.0.1:0"}}, "must be an IP address and a port"),
        ({"listen": {"rest": "127.0.0.1:99999"}}, "must be an IP address and a port"),
        ({"listen": {"rest": "127.0.0.1:1 ssl"}}, "must be an IP address and a port"),
        ({"listen": {"rest": "user@127.0.0.1:1"}}, "must be an IP address and a port"),
        ({"listen": {"rest": "[fe80::1%eth0]:1"}}, "must be an IP address and a port"),
        ({"listen": {"rest": "127.0.0.1:7080"}}, "need three ports"),
        ({"tls": {}}, "tls must have a certificate"),
        ({"tls": None}, "tls must have a certificate"),
        ({"tls": {"certificate": "a\nb"}}, "tls.certificate must be the path of a file"),
        ({"keys": 3}, "keys must be the path of a file"),
        ({"keys": ""}, "keys must be the path of a file"),
        ({"sticky": "session"}, "sticky must be a section"),
        ({"sticky": {"name": "x"}}, "sticky has unknown keys: name; known are cookie, header"),
        ({"sticky": {"header": "a b"}}, "sticky.header must be a name of up to 64 letters, digits and _ . -,"),
        ({"sticky": {"cookie": ""}}, "sticky.cookie must be a name"),
        ({"sticky": {"cookie": "a\n"}}, "sticky.cookie must be a name"),
        ({"sticky": {"cookie": None}}, "sticky.cookie must be a name"),
        ({"permit": "cleartext"}, "permit must be a list of any of cleartext, anonymous, metrics"),
        ({"permit": ["all"]}, "permit must be a list"),
    ],
)
def test_mistakes_are_named(content: Any, reason: str) -> None:
    with pytest.raises(MarserveError) as caught:
        parse_spec(content, HERE)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"listen": OPEN}, "without tls and keys; set that, or `permit: [cleartext, anonymous]`"),
        ({"listen": {"grpc": "[::]:1"}}, "without tls and keys"),
        ({"listen": {"grpc": "192.0.2.1:1"}, "keys": "k"}, "without tls; set that, or `permit: [cleartext]`"),
        ({"listen": OPEN, "tls": SAFE["tls"]}, "without keys; set that, or `permit: [anonymous]`"),
        ({"listen": OPEN, **SAFE, "permit": ["metrics"]}, ""),
        ({"listen": OPEN, "permit": ["cleartext", "anonymous"]}, ""),
        ({"listen": {"metrics": "0.0.0.0:1"}, **SAFE}, "without a loopback address; set that, or `permit: [metrics]`"),
        ({"listen": {"rest": "127.9.9.9:1", "grpc": "[::1]:2"}}, ""),
    ],
)
def test_what_other_machines_reach_must_be_wanted(content: dict[str, Any], reason: str) -> None:
    if not reason:
        parse_spec(content, HERE)
        return
    with pytest.raises(MarserveError, match="other machines could reach it") as caught:
        parse_spec(content, HERE)
    assert reason in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MarserveError, match=r"cannot read the edge's settings .*No such file"):
        read_spec(tmp_path / "edge.yaml")
    for content in (b"{", b"\xff\xfe\x00", b"a: b: c"):
        (tmp_path / "edge.yaml").write_bytes(content)
        with pytest.raises(MarserveError, match="cannot read the edge's settings"):
            read_spec(tmp_path / "edge.yaml")
    (tmp_path / "edge.yaml").write_text("x: 1")
    with pytest.raises(MarserveError, match=r"edge\.yaml: the file has unknown keys: x"):
        read_spec(tmp_path / "edge.yaml")


def test_moved() -> None:
    assert Spec().moved(None) == Spec()
    assert [address.port for address in Spec().moved(9090).listening()] == [9090, 8080, 9092]
    with pytest.raises(MarserveError, match="out of range"):
        Spec().moved(1000)


def test_every_model_has_its_limits() -> None:
    spec = parse_spec({"models": {"a": {"queue": 5}}}, HERE).with_models(["a", "b"])
    assert spec.models == {"a": Model(queue=5), "b": Model()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@PATIENT
@given(
    st.dictionaries(
        st.sampled_from(["listen", "tls", "keys", "permit", "access_log", "sticky", "limits", "model", "models"]), JSON
    )
)
def test_whatever_is_in_it_is_a_spec_or_one_line(content: dict[str, Any]) -> None:
    try:
        assert isinstance(parse_spec(content, HERE), Spec)
    except MarserveError as error:
        assert plain(error)  # noqa: PT017 (as it is printed: on one line)
