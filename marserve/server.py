"""A TorchServe that is started again when it dies: one after another, in the same folder and on the same ports."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from marserve.background import Flag
from marserve.deaths import Deaths, tell
from marserve.errors import MarserveError
from marserve.failures import Failure, tell_failures
from marserve.health import Health
from marserve.settings import check_free
from marserve.state import Keeper, Plan, State
from marserve.torchserve import Setup, TorchServe

PORTS_TIMEOUT = 5.0  # seconds until the kernel has taken the ports of killed processes back
END_TIMEOUT = 1.0  # seconds between the last word of a process that dies and its end


class Server:
    """Started by the constructor; `stop` leaves no process behind, in whatever state it is."""

    def __init__(
        self,
        setup: Setup,
        first: Plan,
        keeper: Keeper,
        restore: Callable[[State], Plan],
        health: Health,
        deaths: Deaths,
        strict: bool,
    ) -> None:
        """`restore` says what to serve after a death, from what `keeper` has seen last. With `strict` none may fail."""
        self._setup = setup
        self._keeper = keeper
        self._restore = restore
        self._health = health
        self._deaths = deaths
        self._strict = strict
        self._ready = False
        self.plan = first  # what is to be served, without what has failed
        self.failures: list[Failure] = []  # at its last start
        self._torchserve = self._start()

    @property
    def pid(self) -> int:
        return self._torchserve.pid

    @property
    def ready(self) -> bool:
        """Whether it is there, and was once ready."""
        return self._ready and not self._torchserve.ended

    def wait_until_ready(self, stopping: Flag) -> bool:
        """As TorchServe's, false once `stopping` is set; what has failed is told, and /health says how it is."""
        failed = self._torchserve.wait_until_ready(stopping, self._strict)
        self._ready = not stopping
        if self._ready:
            self.failures = [*self.plan.failures, *failed]
            tell_failures(self.failures)
            lost = {(one.model, one.version) for one in failed}
            served = [one for one in self.plan.archives if (one.name, one.version) not in lost]
            self.plan = replace(self.plan, archives=served, failures=())
            self._keeper.spare(self.failures)
            self._health.serving(self.failures)
            self._health.look()
        return self._ready

    def tend(self, stopping: Flag) -> None:
        """Where it has died, start it again as it was last seen; return when it is ready, or `stopping` is set.

        What had failed is not tried again. Raises MarserveError where it dies too often, or nothing gets ready.
        """
        if not self._torchserve.ended:
            return
        self._ready = False
        self._health.starting()
        began = time.monotonic()
        while (code := self._torchserve.code()) is not None and not stopping:
            self._deaths.count(code, f" (logs: {self._setup.rundir.logs})")
            self._start_again()
            try:
                self.wait_until_ready(stopping)
            except MarserveError:
                if self._torchserve.code(END_TIMEOUT) is None:  # or it has died once more, and that is counted
                    raise
        if self._ready:
            restored = f"; restored {'; '.join(self.plan.said)}" if self.plan.said else ""
            tell(f"TorchServe is ready again after {time.monotonic() - began:.1f} s{restored}")

    def stop(self, at_once: Callable[[], bool]) -> None:
        self._torchserve.stop(at_once)

    def _start(self) -> TorchServe:
        return TorchServe(self._setup, self.plan)

    def _start_again(self) -> None:
        self._torchserve.stop()  # the workers that it has left
        check_free(self._setup.addresses.all(), PORTS_TIMEOUT)
        self._setup.rundir.renew()
        if state := self._keeper.last:
            self.plan = self._restore(state)
        self._torchserve = self._start()
