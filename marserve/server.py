"""A TorchServe that is started again when it dies: one after another, in the same folder and on the same ports."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from marserve.background import Flag
from marserve.deaths import Deaths, tell
from marserve.errors import MarserveError
from marserve.health import Health
from marserve.overrides import Overrides
from marserve.rundir import RunDir
from marserve.settings import Addresses, check_free
from marserve.state import Keeper, Plan, State
from marserve.torchserve import TorchServe

PORTS_TIMEOUT = 5.0  # seconds until the kernel has taken the ports of killed processes back
END_TIMEOUT = 1.0  # seconds between the last word of a process that dies and its end


class Server:
    """Started by the constructor; `stop` leaves no process behind, in whatever state it is."""

    def __init__(
        self,
        rundir: RunDir,
        properties: Mapping[str, str],
        addresses: Addresses,
        first: Plan,
        pools: Mapping[str, str],
        overrides: Mapping[str, Overrides],
        keeper: Keeper,
        restore: Callable[[State], Plan],
        health: Health,
        deaths: Deaths,
    ) -> None:
        """`restore` says what to serve after a death, from what `keeper` has seen last."""
        self._rundir = rundir
        self._properties = properties
        self._addresses = addresses
        self._plan = first
        self._pools = pools
        self._overrides = overrides
        self._keeper = keeper
        self._restore = restore
        self._health = health
        self._deaths = deaths
        self._ready = False
        self._torchserve = self._start()

    @property
    def pid(self) -> int:
        return self._torchserve.pid

    @property
    def ready(self) -> bool:
        """Whether it is there, and was once ready."""
        return self._ready and not self._torchserve.ended

    def wait_until_ready(self, stopping: Flag) -> bool:
        """As TorchServe's; from then on /health says how it is."""
        self._ready = self._torchserve.wait_until_ready(stopping)
        if self._ready:
            self._health.serving()
            self._health.look()
        return self._ready

    def tend(self, stopping: Flag) -> None:
        """Where it has died, start it again as it was last seen; return when it is ready, or `stopping` is set.

        Raises MarserveError where it dies too often, or does not get ready.
        """
        if not self._torchserve.ended:
            return
        self._ready = False
        self._health.starting()
        began = time.monotonic()
        while (code := self._torchserve.code()) is not None and not stopping:
            self._deaths.count(code, f" (logs: {self._rundir.logs})")
            self._start_again()
            try:
                self.wait_until_ready(stopping)
            except MarserveError:
                if self._torchserve.code(END_TIMEOUT) is None:  # or it has died once more, and that is counted
                    raise
        if self._ready:
            restored = f"; restored {'; '.join(self._plan.said)}" if self._plan.said else ""
            tell(f"TorchServe is ready again after {time.monotonic() - began:.1f} s{restored}")

    def stop(self, at_once: Callable[[], bool]) -> None:
        self._torchserve.stop(at_once)

    def _start(self) -> TorchServe:
        return TorchServe(self._rundir, self._properties, self._addresses, self._plan, self._pools, self._overrides)

    def _start_again(self) -> None:
        self._torchserve.stop()  # the workers that it has left
        check_free(self._addresses.all(), PORTS_TIMEOUT)
        self._rundir.renew()
        if state := self._keeper.last:
            self._plan = self._restore(state)
            # What `models=` said is in there. TorchServe takes that, or what is restored.
            self._properties = {key: value for key, value in self._properties.items() if key != "models"}
        self._torchserve = self._start()
