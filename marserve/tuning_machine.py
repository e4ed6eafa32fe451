"""Real measurements for `marserve tune`: a fresh TorchServe for each candidate, with load from wrk."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from marserve import wrk
from marserve.archive import Archive
from marserve.errors import MarserveError
from marserve.overrides import Overrides, obeys_network, shipped_network, shipped_server
from marserve.rundir import RunDir
from marserve.serve import StopFlag, pools
from marserve.settings import Addresses, addresses, check_free
from marserve.torchserve import TorchServe
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


@dataclass(frozen=True, slots=True)
class Machine:
    """Measures an archive's settings here, one server after the other on the same ports."""

    archive: Archive
    requests: Sequence[wrk.Request]
    properties: dict[str, str]
    slo_ms: float
    stopping: StopFlag
    listening: Addresses
    rundir: RunDir
    tell: Callable[[str], None]  # what is being done, for a progress bar

    def measure(self, settings: Settings, loads: Sequence[int], duration: float) -> Measurement:
        """A `tune.Measure`. Loads end early at one with errors, or whose median is over the limit already."""
        points: list[Point] = []
        try:
            with self._serving(settings) as url:
                self._load(url, loads[0], WARM_UP_SECONDS)
                for load in loads:
                    self.tell(f"{describe(settings)}, {load} connections")
                    figures = self._load(url, load, duration)
                    if figures.errors and not points:
                        failure = f"{figures.errors} of {figures.requests} replies at {load} connections were errors"
                        return Measurement(settings, failure=failure)
                    if figures.errors:
                        break  # this load does not count, nor would a higher one
                    points.append(Point(load, figures.rps, figures.p50_ms, figures.p99_ms, figures.generator_cpu))
                    if figures.p50_ms > self.slo_ms:
                        break
        except MarserveError as error:
            return Measurement(settings, failure=str(error))
        return Measurement(settings, tuple(points))

    def check_requests(self, settings: Settings) -> None:
        """Send every request once. Raises MarserveError for the first that is not answered with 200."""
        with self._serving(settings) as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            for number, request in enumerate(self.requests, 1):
                reply = client.post(request.path, content=request.body, headers=dict(request.headers))
                if reply.status_code != 200:
                    raise MarserveError(
                        f"sample {number} of {len(self.requests)} is answered with {reply.status_code}: "
                        f"{reply.text[:200]}"
                    )

    def _load(self, url: str, load: int, duration: float) -> wrk.Figures:
        try:
            return wrk.run(url, self.requests, load, duration)
        finally:
            if self.stopping:  # Ctrl-C reaches wrk too: its figures are those of a shorter run, or none
                raise Interrupted from None

    @contextmanager
    def _serving(self, settings: Settings) -> Iterator[str]:
        """The address of a server with only this model. Raises MarserveError where it does not get ready."""
        self.tell(f"{describe(settings)}, starting")
        self.rundir.make()
        overrides = overrides_of(settings, self.archive, self.rundir.config)
        archives = [self.archive]
        server = TorchServe(
            self.rundir,
            self.properties,
            self.listening,
            archives,
            pools(None, archives, self.rundir),
            {self.archive.name: overrides} if overrides else {},
        )
        try:
            if not server.wait_until_ready(self.stopping):
                raise Interrupted
            yield self.listening.rest.url
        finally:
            server.stop()


@contextmanager
def machine(
    archive: Archive,
    requests: Sequence[wrk.Request],
    properties: dict[str, str],
    slo_ms: float,
    tell: Callable[[str], None],
) -> Iterator[Machine]:
    """Free ports and a folder for the servers, given back at the end. Ctrl-C then ends a measurement by Interrupted."""
    stopping = StopFlag()
    listening, rundir = _free(properties)
    try:
        yield Machine(archive, requests, properties, slo_ms, stopping, listening, rundir, tell)
    finally:
        rundir.remove(keep_logs=False)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def describe(settings: Settings) -> str:
    network = "" if settings.threads is None else f" x {settings.threads} threads, chunk {settings.chunk}"
    return f"{settings.workers} workers{network}, batch {settings.batch}, delay {settings.delay} ms"


def _free(properties: dict[str, str]) -> tuple[Addresses, RunDir]:
    for port in range(FIRST_PORT, FIRST_PORT + 1000, 10):
        rundir, listening = RunDir(port), addresses(properties, port)
        try:
            check_free(listening)
            rundir.lock()
        except MarserveError:
            continue
        return listening, rundir
    raise MarserveError(f"no free ports between {FIRST_PORT} and {FIRST_PORT + 1000}")
