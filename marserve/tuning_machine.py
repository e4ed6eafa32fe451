"""Real measurements for `marserve tune`: a fresh TorchServe for each candidate, with load from wrk."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from marserve import wrk
from marserve.archive import Archive
from marserve.background import StopFlag
from marserve.errors import MarserveError
from marserve.overrides import Overrides, obeys_network, shipped_network, shipped_server
from marserve.rundir import RunDir
from marserve.serve import pools
from marserve.settings import Addresses, addresses, check_free
from marserve.state import Plan
from marserve.torchserve import Setup, TorchServe
from marserve.tune import Interrupted, Measurement, Point, Settings

FIRST_PORT = 18100  # of the REST ports that are tried
WARM_UP_SECONDS = 2.0  # of load before anything counts: Java compiles what is called often


def shipped_settings(archive: Archive) -> Settings:
    """The archive's own; without threads and chunk where its handlers would not let them be changed."""
    server = shipped_server(archive)
    network = shipped_network(archive) if obeys_network(archive) else {}
    return Settings(
        workers=server["minWorkers"],
        batch=server["batchSize"],
        delay=server["maxBatchDelay"],
        threads=network.get("threads"),
        chunk=network.get("chunk"),
    )


def overrides_of(settings: Settings, archive: Archive, path: Path) -> Overrides:
    """What has to be overridden for an archive to be served with these settings."""
    server = {
        "minWorkers": settings.workers,
        "maxWorkers": settings.workers,
        "batchSize": settings.batch,
        "maxBatchDelay": settings.delay,
    }
    network = {key: value for key, value in (("chunk", settings.chunk), ("threads", settings.threads)) if value}
    shipped = {**shipped_server(archive), **shipped_network(archive)}
    changed = {key: value for key, value in server.items() if value != shipped[key]}
    return Overrides(path, changed, {key: value for key, value in network.items() if value != shipped[key]})


def read_requests(archive: Archive, samples: Path | None) -> list[wrk.Request]:
    """The archive's example, or every file of a folder with the content type of its suffix. Raises MarserveError."""
    path = f"/predictions/{archive.name}/{archive.version}"
    if samples is None:
        try:
            return [wrk.Request(path, *archive.example_request())]
        except MarserveError as error:
            raise MarserveError(f"{error}: name a folder of requests with --samples") from None
    try:
        files = sorted(file for file in samples.iterdir() if file.is_file())
        bodies = [file.read_bytes() for file in files]
    except OSError as error:
        raise MarserveError(f"cannot read the samples in {samples}: {error.strerror}") from None
    if not files:
        raise MarserveError(f"{samples} holds no files to send")
    kinds = [mimetypes.guess_type(file.name)[0] or "application/octet-stream" for file in files]
    return [wrk.Request(path, body, {"content-type": kind}) for body, kind in zip(bodies, kinds, strict=True)]


class Machine:
    """Measures an archive's settings here, one server after the other on the same ports."""

    def __init__(
        self,
        archive: Archive,
        requests: Sequence[wrk.Request],
        properties: Mapping[str, str],
        slo_ms: float,
        tell: Callable[[str], None],
    ) -> None:
        """Takes ports and a folder, and SIGINT and its like: measurements then end by `Interrupted`."""
        self._archive = archive
        self._requests = requests
        self._properties = properties
        self._slo_ms = slo_ms
        self._tell = tell  # what is being done, for a progress bar
        self._stopping = StopFlag()
        self._listening, self._rundir = _free(properties)
        self._checked = False

    def measure(self, settings: Settings, loads: Sequence[int], duration: float) -> Measurement:
        """A `tune.Measure`. Loads end early where more connections bring errors, no throughput, or too late replies.

        Raises MarserveError at the first server where a request is not answered with 200.
        """
        points: list[Point] = []
        try:
            with self._serving(settings) as url:
                self._check_requests(url)
                self._load(url, loads[0], WARM_UP_SECONDS)
                for load in loads:
                    self._tell(f"{describe(settings)}, {load} connections")
                    figures = self._load(url, load, duration)
                    if figures.errors and not points:
                        failure = f"{figures.errors} of {figures.requests} replies at {load} connections were errors"
                        return Measurement(settings, failure=failure)
                    if figures.errors:
                        break
                    points.append(Point(load, figures.rps, figures.p50_ms, figures.p99_ms, figures.generator_cpu))
                    if figures.p50_ms > self._slo_ms or _saturated(points):
                        break
        except MarserveError as error:
            if not self._checked:
                raise
            return Measurement(settings, failure=str(error))
        return Measurement(settings, tuple(points))

    def close(self) -> None:
        self._rundir.remove(keep_logs=False)

    def _check_requests(self, url: str) -> None:
        """Send every request once, to the first server only."""
        if self._checked:
            return
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            for number, request in enumerate(self._requests, 1):
                try:
                    reply = client.post(request.path, content=request.body, headers=dict(request.headers))
                except httpx.HTTPError as error:
                    raise MarserveError(f"request {number} of {len(self._requests)} got no answer: {error}") from None
                if reply.status_code != 200:
                    raise MarserveError(
                        f"request {number} of {len(self._requests)} is answered with {reply.status_code}: "
                        f"{reply.text[:200]}"
                    )
        self._checked = True

    def _load(self, url: str, load: int, duration: float) -> wrk.Figures:
        try:
            return wrk.run(url, self._requests, load, duration)
        finally:
            if self._stopping:  # Ctrl-C reaches wrk too: its figures are those of a shorter run, or none
                raise Interrupted from None

    @contextmanager
    def _serving(self, settings: Settings) -> Iterator[str]:
        """The address of a server with only this model. Raises MarserveError where it does not get ready."""
        self._tell(f"{describe(settings)}, starting")
        self._rundir.make()
        overrides = overrides_of(settings, self._archive, self._rundir.config)
        archives = [self._archive]
        setup = Setup(
            self._rundir,
            self._properties,
            self._listening,
            pools(None, archives, self._rundir),
            {self._archive.name: overrides} if overrides else {},
        )
        server = TorchServe(setup, Plan(archives))
        try:
            server.wait_until_ready(self._stopping)
            if self._stopping:
                raise Interrupted
            yield self._listening.rest.url
        finally:
            server.stop()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def describe(settings: Settings) -> str:
    network = "" if settings.threads is None else f"threads {settings.threads}, chunk {settings.chunk}, "
    return f"workers {settings.workers}, {network}batch {settings.batch}, delay {settings.delay} ms"


def _saturated(points: Sequence[Point]) -> bool:
    """The last two loads brought no more throughput: more connections would only wait longer."""
    return len(points) > 2 and max(point.rps for point in points[-2:]) < max(point.rps for point in points[:-2])


def _free(properties: Mapping[str, str]) -> tuple[Addresses, RunDir]:
    for port in range(FIRST_PORT, FIRST_PORT + 1000, 10):
        rundir, listening = RunDir(port), addresses(properties, port)
        try:
            check_free(listening.all())
            rundir.lock()
        except MarserveError:
            continue
        return listening, rundir
    raise MarserveError(f"no free ports between {FIRST_PORT} and {FIRST_PORT + 1000}")
