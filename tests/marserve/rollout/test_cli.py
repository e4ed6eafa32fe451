"""What `marserve rollout` refuses before it asks anybody."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from marserve.cli import app
from marserve.errors import MarserveError
from marserve.rollout.canary import Outcome

RUN = ["rollout", "digit", "--to", "2.0", "--port", "65000"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--canary", "5,5"], "--canary takes growing shares from above 0 to 100"),
        (["--canary", "0,50"], "--canary takes growing shares"),
        (["--canary", "101"], "--canary takes a share from 0% to 100%"),
        (["--canary", ""], "--canary takes a share"),
        (["--canary", "5%,25%"], "no marserve of yours"),
        (["--hold", "60"], "--hold takes a number and its unit"),
        (["--hold", "1ms"], "--hold must be from 1s"),
        (["--max-error", "0.01"], "--max-error takes a share"),
        (["--max-p99", "fast"], "--max-p99 takes a number and its unit"),
        (["--shadow", "10"], "--shadow takes a number and its unit"),
        (["--shadow", "10s", "--sample", "200%"], "--sample takes a share"),
        (["--shadow", "10s", "--max-disagreement", "1"], "--max-disagreement takes a share"),
        ([], "no marserve of yours is running on port 65000"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, [*RUN, *arguments])
    assert isinstance(done.exception, MarserveError)
    assert said in str(done.exception)


@pytest.mark.parametrize("name", ["../etc", "a b", "", "x" * 200, "d\ngit"])
def test_names_are_checked(name: str) -> None:
    done = CliRunner().invoke(app, ["rollout", name, "--to", "1"])
    assert "is no name of a model or a version" in str(done.exception)


def test_a_canary_that_could_not_begin_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of an earlier candidate, say, that are not answered yet: no step was taken."""
    monkeypatch.setattr("marserve.rollout.run.roll_out", lambda *_: Outcome(reason="no room"))
    done = CliRunner().invoke(app, RUN)
    assert (done.exit_code, done.stdout) == (1, "rolled back: no room\n")
