"""`marserve top`: where the time of a running server goes, from its page of metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from handlers.metrics import STAGES
from marserve.client import is_loopback
from marserve.errors import MarserveError
from marserve.rates import Rates, Scrape, ServerRates, rates, read_samples, server_rates
from marserve.settings import addresses
from marserve.terminal import plain

TIMEOUT = 5.0  # seconds
WIDTH = 180  # characters of a line where there is no terminal
_NOTHING = "no model here has marserve's metrics: `python -m export NAME --archive FILE` packs it with newer handlers"


def metrics_url(port: int) -> str:
    """Where the server of that REST port has its page, with the shipped config.properties."""
    return f"{addresses({}, port).metrics.url}/metrics"


def top(url: str, interval: float, once: bool) -> None:
    """Print a table after each interval until Ctrl-C, or one. Raises MarserveError where no such page answers."""
    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out = Console(highlight=False, markup=False, emoji=False, width=WIDTH)
    try:
        with _http(url) as http:
            tables = _tables(http, url, interval)
            if once:
                out.print(next(tables))
            elif out.is_terminal:
                with Live(console=out, auto_refresh=False) as live:
                    for shown in tables:
                        live.update(shown, refresh=True)
            else:
                for shown in tables:
                    out.print(shown)
    except KeyboardInterrupt:
        return


def scrape(http: httpx.Client, url: str) -> Scrape:
    """Raises MarserveError."""
    try:
        reply = http.get(url)
        now = time.monotonic()
    except httpx.RequestError as error:
        raise MarserveError(f"no answer from {url}: {error}; is `marserve serve` running?") from None
    if reply.status_code != 200:
        raise MarserveError(f"{url} answers {reply.status_code}: --metrics takes the address of a page of metrics")
    try:
        return Scrape(now, read_samples(reply.text))
    except ValueError as error:
        raise MarserveError(f"{url} is no page of metrics ({error})") from None


def table(found: Sequence[Rates], server: ServerRates) -> Group | str:
    """As it is printed; times in milliseconds."""
    if not found:
        return _NOTHING
    shown = Table(box=None, padding=(0, 2, 0, 0))
    shown.add_column("model version", overflow="fold")
    for name in (
        "workers",
        "req/s",
        "4xx/s",
        "5xx/s",
        "batch",
        "p50 ms",
        "p99 ms",
        "queue ms",
        *(f"{stage} ms" for stage in STAGES),
        "busy",
    ):
        shown.add_column(name, justify="right")
    shown.add_column("limit")
    for one in found:
        shown.add_row(
            plain(f"{one.model} {one.version}"),
            str(one.workers),
            *(f"{rate:.1f}" for rate in (one.requests, one.client_errors, one.server_errors)),
            "-" if one.batch is None else f"{one.batch:.1f}",
            *map(_milliseconds, (one.p50, one.p99, *one.stages.values())),
            "-" if one.busy is None else f"{100 * one.busy:.0f} %",
            one.limit,
        )
    replies = f"{server.client_errors:.1f} 4xx/s, {server.server_errors:.1f} 5xx/s"
    whole = f"all of TorchServe's replies, also those without a worker: {replies}"
    return Group(shown, whole)


def _http(url: str) -> httpx.Client:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise MarserveError(f"{url!r} is no address of a page of metrics: http://127.0.0.1:8082/metrics is one")
    # A proxy that the environment names cannot reach this machine's own loopback.
    return httpx.Client(timeout=TIMEOUT, trust_env=not is_loopback(parts.host))


def _tables(http: httpx.Client, url: str, interval: float) -> Iterator[Group | str]:
    before = scrape(http, url)
    while True:
        time.sleep(interval)
        after = scrape(http, url)
        yield table(rates(before, after), server_rates(before, after))
        before = after


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.2f}" if seconds < 0.1 else f"{1000 * seconds:.0f}"
