"""Keys: shown once, kept as hashes, in a file for its owner alone."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.edge import keys
from marserve.edge.keys import NO_LIMIT, Key
from marserve.errors import MarserveError
from tests.marserve.conftest import PATIENT

HASH = "0" * 64


def test_created_listed_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    assert keys.read(path) == ()
    alice, secret = keys.create(path, "alice", None)
    bob, other = keys.create(path, "bob", 20)
    assert secret != other
    assert alice.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert len(secret.removeprefix("mk_")) == 43  # 256 bits, 6 of them a character
    assert keys.read(path) == (alice, bob)
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret not in path.read_text()
    assert keys.as_map(keys.read(path)) == f"{alice.sha256} {NO_LIMIT}:alice\n{bob.sha256} 20:bob\n"
    with pytest.raises(MarserveError, match="there is a key alice already"):
        keys.create(path, "alice", None)
    assert keys.revoke(path, "alice") == alice
    assert keys.read(path) == (bob,)
    with pytest.raises(MarserveError, match="has no key alice"):
        keys.revoke(path, "alice")
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_many_at_once_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    threads = [threading.Thread(target=keys.create, args=(path, f"key-{number}", None)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in keys.read(path)} == {f"key-{number}" for number in range(20)}


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-a", "a\n", "a" * 65, 'a"', "ä", "../a"])
def test_names_that_would_be_something_else_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(MarserveError, match="is no name for a key"):
        keys.create(tmp_path / "keys.json", name, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [0, -1, NO_LIMIT + 1, 1.5, True, "3"])
def test_rates(rate: Any) -> None:
    with pytest.raises(MarserveError, match="must be from 1 to"):
        Key("a", HASH, 0, rate)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"keys": 3}',
        '{"keys": [3]}',
        '{"keys": [{}]}',
        '{"keys": [{"name": "a", "sha256": "x", "created": 0}]}',
        f'{{"keys": [{{"name": "a\\nb", "sha256": "{HASH}", "created": 0}}]}}',
        f'{{"keys": [{{"name": "a", "sha256": "{HASH}", "created": "x"}}]}}',
        f'{{"keys": [{{"name": "a", "sha256": "{HASH}", "created": 0, "more": 1}}]}}',
    ],
)
def test_files_that_are_no_keys(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(MarserveError) as caught:
        keys.read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys.create(path, "a", None)
    path.chmod(0o644)
    with pytest.raises(MarserveError, match=r"is open to others: `chmod 600"):
        keys.read(path)


def test_nowhere(tmp_path: Path) -> None:
    with pytest.raises(MarserveError, match="cannot open the folder"):
        keys.create(tmp_path / "no" / "keys.json", "a", None)
    with pytest.raises(MarserveError, match="cannot read the keys"):
        keys.read(tmp_path)


@PATIENT
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", fullmatch=True), st.none() | st.integers(1, NO_LIMIT))
def test_the_map_has_one_line_with_two_words(name: str, rate: int | None) -> None:
    line = keys.as_map([Key(name, HASH, 0, rate)])
    key, value = line.removesuffix("\n").split(" ")
    assert (key, value.split(":")) == (HASH, [str(rate or NO_LIMIT), name])
    assert json.dumps(name) == f'"{name}"'
