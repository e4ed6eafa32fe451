"""One Locust process: asked whether the server is there first, run to its end, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from loadtest.errors import LoadTestError
from loadtest.plan import TIMEOUT, Plan
from loadtest.report import Summary, read_summary
from marserve.client import Client, GrpcClient, RestClient

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_STOP_TIMEOUT = TIMEOUT + 5  # requests under way at the end are waited for: without them the slowest would be missing


def check_server(plan: Plan) -> None:
    """Send each model one request. Raises MarserveError where no server answers, LoadTestError where it lacks a model.

    Other errors are left to the run, which counts them.
    """
    client: Client = GrpcClient(plan.grpc) if plan.grpc else RestClient(plan.host)
    with client:
        for target in plan.targets:
            answer = client.predict(target.model, target.bodies[0])
            if "Model not found" in answer.error or answer.error.startswith(("404:", "NOT_FOUND:")):
                raise LoadTestError(f"the server has no model {target.model} ({plan.server})")


def run_locust(plan: Plan, output: Path) -> Summary:
    """Run the plan and write report.html, run_*.csv and locust.log into `output`. Raises LoadTestError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "locust.log").write_bytes(b"")
        log = (output / "locust.log").open("ab")  # Locust writes to it by name as well
    except OSError as error:
        raise LoadTestError(f"cannot write into {output}: {error.strerror}") from None
    on_terminal = sys.stderr.isatty()
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--exit-code-on-error", "0"]
    command += ["--html", str(output / "report.html"), "--csv", str(output / "run")]
    command += ["--logfile", log.name, "--stop-timeout", f"{_STOP_TIMEOUT:.0f}"]
    command += [] if on_terminal else ["--only-summary"]
    # Settings of other Locust runs must not reach into this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LOCUST_")}
    with log, tempfile.TemporaryDirectory(prefix="marserve-loadtest-") as folder:
        plan.write(Path(folder, "plan.json"))
        screen = None if on_terminal else log
        process = subprocess.Popen(
            command,
            env=environment | {"LOADTEST_FOLDER": folder},
            stdin=subprocess.DEVNULL,  # Locust reads keys from a terminal
            stdout=screen,
            stderr=screen,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        )
        code = _wait(process)
        summary = Path(folder, "summary.json")
        if code != 0 or not summary.exists():
            raise LoadTestError(f"Locust ended with exit code {code} (log: {output / 'locust.log'})")
        return read_summary(summary)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Its exit code. Whatever ends this process ends that one too."""
    handlers = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # Locust finishes its report
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT)
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    sys.exit(128 + number)
