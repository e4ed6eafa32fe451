"""`marserve rollout`: flags in, lines out."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from marserve.edge.spec import DEFAULT_PORT as EDGE_PORT
from marserve.errors import MarserveError
from marserve.settings import DEFAULT_PORT
from marserve.terminal import plain, progress

STEPS = "5,25,100"


def rollout(
    name: Annotated[str, typer.Argument(help="The model.")],
    to: Annotated[str, typer.Option("--to", help="The version that is to become the default; registered and READY.")],
    canary: Annotated[
        str | None,
        typer.Option(
            help=f"Per cent of the requests that it gets, step by step.  [default: {STEPS}, without --shadow]"
        ),
    ] = None,
    hold: Annotated[str, typer.Option(help="How long each step lasts at least.")] = "60s",
    max_error: Annotated[str, typer.Option(help="Share of its requests that may fail.")] = "1%",
    max_p99: Annotated[str | None, typer.Option(help="What 99 % of its replies must keep: 80ms.")] = None,
    min_requests: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Without so many requests no step is passed.")
    ] = 100,
    shadow_for: Annotated[
        str | None, typer.Option("--shadow", help="Send it copies of the requests for so long, and compare: 10m.")
    ] = None,
    sample: Annotated[str, typer.Option(help="Share of the requests that are copied to a shadow.")] = "100%",
    max_disagreement: Annotated[
        str, typer.Option(help="Share of a shadow's answers that may differ in their label or status.")
    ] = "1%",
    report: Annotated[
        Path | None, typer.Option(help="Folder for a shadow's report.  [default: rollout-NAME-VERSION-TIME]")
    ] = None,
    port: Annotated[int, typer.Option(min=1100, max=65000, help="The server's REST port.")] = DEFAULT_PORT,
    edge_port: Annotated[
        int, typer.Option(min=1100, max=65000, help="The REST port of the edge before it.")
    ] = EDGE_PORT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with every figure.")] = False,
) -> None:
    """Try a version on part of the requests, or on copies, and make it the default or leave the one before.

    With --canary the edge sends it a growing share, and it becomes the default after the last step; the version before
    gets everything back as soon as more than --max-error of the candidate's requests fail, more than 1 % take longer
    than --max-p99, or it does not answer. With --shadow no client gets its answers; with both, the shadow comes first
    and has to agree. Exit code 0: all went well; 1: it is not good enough, and the version before serves on.
    """
    from marserve.background import StopFlag
    from marserve.durations import seconds
    from marserve.models.running import checked
    from marserve.rollout import run
    from marserve.rollout.canary import Options, Outcome
    from marserve.rollout.judge import Limits
    from marserve.rollout.show import Lines
    from marserve.settings import addresses
    from marserve.shadow.outcome import Options as ShadowOptions

    target = run.Target(checked(name), checked(to), port, edge_port)
    p99 = None if max_p99 is None else 1000 * seconds(max_p99, "--max-p99", 0.001, 600)
    limits = Limits(_share(max_error, "--max-error"), p99, min_requests)
    options = Options(_steps(STEPS if canary is None else canary), seconds(hold, "--hold", 1, 24 * 3600), limits)
    shadowing = None
    if shadow_for is not None:
        lasts = seconds(shadow_for, "--shadow", 1, 24 * 3600)
        shares = _share(sample, "--sample"), _share(max_disagreement, "--max-disagreement")
        shadowing = ShadowOptions(name, to, addresses({}, port), lasts, *shares, report=report)
    compared = None
    outcome = Outcome()
    with run.alone(target):
        if shadowing:
            from marserve.shadow import run as shadow

            compared = shadow.run(shadowing)
            outcome.reason = "" if compared.agreed else compared.verdict
            if not as_json:
                print(plain(compared.verdict), f"report      {plain(compared.report)}", sep="\n", flush=True)
        if (canary is not None or not shadowing) and not outcome.reason:
            with progress() as say:
                lines = Lines(say, quiet=as_json)
                outcome = run.roll_out(target, options, StopFlag(), lines)
                lines.end()
    promoted = bool(outcome.steps) and not outcome.reason
    if as_json:
        fields = {"model": name, "version": to, "promoted": promoted, "reason": outcome.reason}
        fields["shadow"] = asdict(compared) if compared else None
        print(json.dumps({**fields, "steps": [step.figures() for step in outcome.steps]}, default=str))
    elif promoted:
        print(f"{name} {to} is the default now")
    elif outcome.reason and (compared is None or compared.agreed):  # a shadow has had its verdict printed
        print(f"rolled back: {plain(outcome.reason)}")
    raise typer.Exit(1 if outcome.reason else 0)


def _steps(text: str) -> tuple[float, ...]:
    steps = tuple(_share(f"{part.removesuffix('%')}%", "--canary") for part in text.split(","))
    if not steps[0] or any(later <= earlier for earlier, later in pairwise(steps)):
        raise MarserveError(f"--canary takes growing shares from above 0 to 100, as in 5,25,100; not {text!r}")
    return steps


def _share(text: str, option: str) -> float:
    """`1%` -> 0.01"""
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?)%", text.strip(), re.ASCII)
    if not found or float(found[1]) > 100:
        raise MarserveError(f"{option} takes a share from 0% to 100%, as in 5% or 0.5%; not {text!r}")
    return float(found[1]) / 100
