"""What an operator types in the trials, and the processes that are there to be killed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from loadtest.errors import LoadTestError
from loadtest.reliability.stack import Stack
from loadtest.reliability.traffic import Ask

MODEL = "drag_pattern"
OLD, NEW = "1.0", "2.0"
SLOWEST = ("--max-p99", "100ms")


@contextmanager
def holding(stack: Stack, share: float) -> Iterator[None]:
    """The new version has that share of the requests inside."""
    rollout = begin(stack, NEW, f"{100 * share:g}", hold=600)
    try:
        time.sleep(2)
        yield
    finally:
        rollout.send_signal(signal.SIGINT)
        rollout.communicate(timeout=30)


def begin(stack: Stack, version: str, steps: str, hold: float, *limits: str) -> subprocess.Popen[str]:
    """A rollout of a version by these steps, each `hold` seconds long, that goes on meanwhile."""
    port, edge_port = stack.ports
    return stack.start(
        "rollout", MODEL, "--to", version, "--canary", steps, "--hold", f"{hold:g}s", "--max-error", "1%", *limits,
        "--port", str(port), "--edge-port", str(edge_port), "--json",
    )  # fmt: skip


def rollout(stack: Stack, version: str, steps: str, hold: float) -> tuple[int, dict[str, Any]]:
    """A rollout to its end: its exit code and its report."""
    command = begin(stack, version, steps, hold, *SLOWEST)
    return _read(command, *command.communicate(timeout=40 * hold))


def report(stack: Stack, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Another command that reports in JSON, to its end."""
    command = stack.start(*arguments, "--port", str(stack.ports[0]), "--json")
    return _read(command, *command.communicate(timeout=600))


def _read(command: subprocess.Popen[str], output: str, errors: str) -> tuple[int, dict[str, Any]]:
    try:
        return command.returncode, json.loads(output)
    except ValueError:
        raise LoadTestError(f"it says no JSON but {(errors.strip() or output)!r}") from None


def run(stack: Stack, *arguments: str) -> None:
    """Raises LoadTestError where the command does not do it."""
    command = stack.start(*arguments, "--port", str(stack.ports[0]))
    _, errors = command.communicate(timeout=60)
    if command.returncode:
        raise LoadTestError(f"{' '.join(arguments)}: {errors.strip()}")


def default(stack: Stack) -> str:
    """The version that is the default."""
    (found,) = httpx.get(f"{stack.management}/models/{MODEL}", trust_env=False, timeout=10).json()
    return str(found["modelVersion"])


def process(stack: Stack, victim: str, rollout: subprocess.Popen[str]) -> int:
    """HAProxy's worker, TorchServe's front end, or the command."""
    if victim == "rollout":
        return rollout.pid
    tree, name = (stack.edge_tree, "haproxy") if victim == "edge" else (stack.server_tree, "java")
    return max(int(process.pid) for process in tree.members() if process.name() == name)


def until_served(stack: Stack, ask: Ask) -> None:
    """Raises LoadTestError where the request is not answered rightly within a minute."""
    deadline = time.monotonic() + 60
    time.sleep(0.2)
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            reply = httpx.post(f"{stack.edge}{ask.path}", content=ask.body, headers=ask.headers, trust_env=False)
            if ask.is_right(reply.status_code, reply.content):
                return
        time.sleep(0.05)
    raise LoadTestError("it did not serve again within a minute")
