"""A shadow: for a while copies of a model's requests go to a candidate as well, and its answers are compared.

The workers that answer clients hand the copies over after they have replied (marserve/boot/tap.py). Nothing here is in
the way of a reply: a candidate that is slow, wrong or hangs costs a report.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from urllib.parse import quote

from marserve.errors import MarserveError
from marserve.management import Management, NoAnswerError, Version
from marserve.rundir import RunDir
from marserve.shadow import priority, report
from marserve.shadow.comparison import Comparison
from marserve.shadow.copies import Backlog, Receiver
from marserve.shadow.cost import Cost
from marserve.shadow.outcome import Options, Outcome, Traffic
from marserve.shadow.replay import Replay
from marserve.terminal import console, plain

_LOOK = 1.0  # seconds


def run(options: Options) -> Outcome:
    """Shadow the default version by the candidate, until the time is over or Ctrl-C; writes the report.

    Raises MarserveError where there is no server, no such version, or the two are the same.
    """
    rundir = RunDir(options.addresses.rest.port)
    if rundir.running() is None:
        raise MarserveError(f"no marserve runs on port {rundir.port}: copies come from the workers of `marserve serve`")
    old = _check(options)
    started_at = time.strftime("%Y%m%d-%H%M%S")
    name = f"rollout-{quote(options.model, safe='')}-{quote(options.version, safe='')}-{started_at}"
    folder = options.report or Path(name)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise MarserveError(f"cannot make the folder {folder}: {error.strerror}; choose another --report") from None
    comparison, backlog = Comparison(), Backlog()
    watch = Watch(options, old, rundir.slots)
    started = time.monotonic()
    receiver = Receiver(rundir.taps, options.model, old, options.sample, backlog)
    with watch, _replaying(options, backlog, comparison), receiver, suppress(KeyboardInterrupt):
        _wait(options, rundir, receiver, comparison)
    seconds = time.monotonic() - started
    try:
        note = priority.restore(options.addresses.management, rundir.slots, options.model, options.version)
    except MarserveError as error:  # the server has ended meanwhile: what was found is told all the same
        note = str(error)
    traffic = Traffic(seconds, receiver.seen, receiver.sampled)
    outcome = Outcome.of(options, old, traffic, comparison.compared, comparison.disagreements, note, folder)
    report.write(outcome, options, comparison, (watch.old_cost.per_request, watch.new_cost.per_request))
    return outcome


def _check(options: Options) -> str:
    """The version that answers."""
    management = Management(options.addresses.management)
    try:
        candidate = priority.find(management, options.model, options.version)
        old = next((one for one in management.versions() if one.model == options.model and one.default), None)
    except NoAnswerError as error:
        raise MarserveError(str(error)) from None
    finally:
        management.close()
    if old is None or candidate.default:
        raise MarserveError(
            f"{options.model} {options.version} answers all requests already: there is nothing to shadow"
        )
    if not candidate.ready:
        raise MarserveError(f"{options.model} {options.version} has no worker that is ready")
    return old.version


class Watch:
    """Looks at both versions' workers each second: keeps the candidate's from the clients' time, adds up the cost."""

    def __init__(self, options: Options, old: str, slots: Path) -> None:
        self._options = options
        self._old = old
        self._management = Management(options.addresses.management)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.old_cost, self.new_cost = Cost(slots), Cost(slots)

    def __enter__(self) -> None:
        self._look()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._look()
        self._management.close()

    def _run(self) -> None:
        while not self._ending.wait(_LOOK):
            self._look()

    def _look(self) -> None:
        with suppress(NoAnswerError):  # at the next look
            for one in self._management.versions():
                if one.model == self._options.model:
                    self._look_at(one)

    def _look_at(self, version: Version) -> None:
        processes = priority.pids(version)
        if version.version == self._old:
            self.old_cost.look(processes)
        elif version.version == self._options.version:
            priority.lower(processes)
            self.new_cost.look(processes)


@contextmanager
def _replaying(options: Options, backlog: Backlog, comparison: Comparison) -> Iterator[None]:
    """Threads that send copies to the candidate; at the end those that are under way get their time, no others."""
    ending = threading.Event()

    def replay() -> None:
        priority.give_way()
        sender = Replay(options.addresses.rest, options.model, options.version, options.limit, ending)
        for copy in backlog:
            comparison.add(copy, sender.send(copy))
            sender.settle()
        sender.close()

    threads = [threading.Thread(target=replay, name="replay", daemon=True) for _ in range(options.at_once)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        backlog.close()
        ending.set()
        for thread in threads:
            thread.join()


def _wait(options: Options, rundir: RunDir, receiver: Receiver, comparison: Comparison) -> None:
    """Until the time is over, or the server has ended. Says how it goes, on a terminal."""
    out = console()
    end = time.monotonic() + options.seconds
    title = f"shadow of {plain(options.model)} {plain(options.version)}"
    with out.status(title) if out.is_terminal else nullcontext() as status:
        while (left := end - time.monotonic()) > 0 and rundir.running():
            if status:
                status.update(
                    f"{title}: {left:.0f} s left, {receiver.seen:,} requests, {comparison.compared:,} compared, "
                    f"{comparison.disagreements:,} differ (Ctrl-C ends it)"
                )
            time.sleep(min(0.5, left))
