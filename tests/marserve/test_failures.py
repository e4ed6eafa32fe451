"""What is said of models that cannot be served."""

from __future__ import annotations

import pytest

from marserve.failures import Failure, nothing_left, tell_failures

LOADED = Failure("dog-1.mar", "dog", "1.0", "does not load: \x1b[31mKeyError: [b]'x'", "does not load")
REFUSED = Failure("cut.mar", "", "", "store/cut.mar is not a readable archive", "the archive is refused")


def test_a_line_for_each(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tell_failures([LOADED, REFUSED])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "FAILED dog 1.0: does not load: \N{REPLACEMENT CHARACTER}[31mKeyError: [b]'x'",
        "FAILED cut.mar: store/cut.mar is not a readable archive",
    ]
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("TERM", "xterm")
    tell_failures([REFUSED])
    assert capsys.readouterr().err == "\x1b[1;31mFAILED\x1b[0m cut.mar: store/cut.mar is not a readable archive\n"


def test_where_nothing_is_left() -> None:
    assert str(nothing_left([LOADED])) == f"dog {LOADED.reason}"
    assert str(nothing_left([REFUSED, LOADED])) == (
        f"nothing can be served: store/cut.mar is not a readable archive; dog {LOADED.reason}"
    )
