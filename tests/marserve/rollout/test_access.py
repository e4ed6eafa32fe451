"""The edge's log, read while it grows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from marserve.edge.access_log import AccessLog
from marserve.errors import MarserveError
from marserve.rollout.access import Tail, read
from marserve.rollout.judge import Answer

LINE = {
    "protocol": "rest", "model": "digit", "version": "2.0", "split": "candidate", "grpc_status": "-",
    "status": 200, "response_ms": 7, "total_ms": 9,
}  # fmt: skip


def entry(**changes: object) -> bytes:
    return json.dumps(LINE | changes).encode()


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, Answer(7, "200")),
        ({"status": 503}, Answer(7, "503", failed=True)),
        ({"status": 504, "response_ms": -1}, Answer(9, "504", failed=True)),
        ({"status": 404}, Answer(7, "404", failed=True)),
        ({"status": 429}, Answer(7, "429", failed=True)),
        ({"status": 422}, Answer(7, "422", refused=True)),
        ({"protocol": "grpc", "grpc_status": "0"}, Answer(7, "200")),
        ({"protocol": "grpc", "grpc_status": "13"}, Answer(7, "grpc 13", failed=True)),
        ({"protocol": "grpc", "grpc_status": "3"}, Answer(7, "grpc 3", refused=True)),
    ],
)
def test_a_line_becomes_an_answer(changes: dict[str, object], answer: Answer) -> None:
    assert read(entry(**changes), "digit") == ("2.0", answer)


def test_the_default_has_no_name() -> None:
    assert read(entry(version="-", split="default"), "digit") == ("-", Answer(7, "200"))


@pytest.mark.parametrize(
    "line", [entry(model="other"), entry(split="-", version="1.0"), b"", b"{", b"[]", b'{"model": "digit"}']
)
def test_other_lines_say_nothing(line: bytes) -> None:
    assert read(line, "digit") is None


def test_lines_are_read_as_they_become_whole(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"before\n")
    with path.open("ab", buffering=0) as log, Tail(path) as tail:
        assert list(tail.lines()) == []
        log.write(b"one\ntw")
        assert list(tail.lines()) == [b"one"]
        log.write(b"o\n")
        assert list(tail.lines()) == [b"two"]


def test_no_line_is_lost_where_the_log_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.touch()
    # 180 KB: at 64 KB a time the limit is passed once, however they fall.
    wanted = [entry(total_ms=number) for number in range(1200)]
    seen: list[bytes] = []
    with Tail(path) as tail:
        with AccessLog(path, rotate=100_000) as log, os.fdopen(os.dup(log.pipe), "wb", buffering=0) as pipe:
            log.start()
            for number, line in enumerate(wanted):
                pipe.write(line + b"\n")
                if number % 7 == 0:  # seldom enough for lines before and behind a rotation
                    seen += tail.lines()
            pipe.close()
        seen += tail.lines()
    assert seen == wanted
    assert (tmp_path / "access.log.1").exists()


def test_a_log_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(MarserveError, match="cannot read the edge's access log"):
        Tail(tmp_path / "none.log")
