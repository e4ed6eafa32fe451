"""How often is too often."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.deaths import MOST, PERIOD, Deaths, how
from marserve.errors import MarserveError


@given(st.lists(st.floats(0, 2 * PERIOD), max_size=20))
def test_one_more_than_so_many_within_the_period_is_too_many(pauses: list[float]) -> None:
    now = 0.0
    times: list[float] = []
    deaths = Deaths("TorchServe", clock=lambda: now)
    for pause in pauses:
        now += pause
        if sum(now - time < PERIOD for time in times) == MOST:
            with pytest.raises(MarserveError, match=r"TorchServe ended by itself \(exit code 1\), for the 4th time"):
                deaths.count(1)
            return
        deaths.count(1)
        times.append(now)
    assert deaths.total == len(times)


def test_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    deaths = Deaths("the edge", clock=lambda: 0.0)
    for _ in range(MOST):
        deaths.count(-signal.SIGKILL, " (logs: here)")
    assert capsys.readouterr().out == MOST * "the edge ended by itself (SIGKILL): it is started again\n"
    with pytest.raises(MarserveError) as raised:
        deaths.count(0, " (logs: here)")
    assert str(raised.value) == "the edge ended by itself (exit code 0), for the 4th time within 60 s (logs: here)"


@pytest.mark.parametrize(("code", "words"), [(0, "exit code 0"), (137, "exit code 137"), (-11, "SIGSEGV")])
def test_how(code: int, words: str) -> None:
    assert how(code) == words


def test_a_signal_without_a_name() -> None:
    assert how(-(signal.SIGRTMIN + 1)) == f"signal {signal.SIGRTMIN + 1}"


def test_nobody_is_there_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody, Path(os.devnull).open("w") as nothing:
        monkeypatch.setattr("sys.stdout", nobody)
        deaths = Deaths("TorchServe")
        deaths.count(1)
        assert deaths.total == 1
        os.dup2(nothing.fileno(), nobody.fileno())  # where its buffer goes at the end
