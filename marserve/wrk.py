"""One run of wrk, Debian's HTTP load generator: Python itself would be the bottleneck. Knows nothing of models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from marserve.errors import MarserveError

REPLY_TIMEOUT = 30  # seconds; a reply that comes later counts as an error

# Requests are formatted once and take turns. Percentiles are of all replies, errors among them; microseconds.
_SCRIPT = """
local requests, turn = {}, 0
local function content(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end
function init(arguments)
%(requests)s
end
function request()
  turn = turn %% #requests + 1
  return requests[turn]
end
function delay()
  return %(pause)d
end
function done(summary, latency)
  local e = summary.errors
  local file = assert(io.open("%(output)s", "w"))
  file:write(string.format(
    '{"microseconds": %%d, "requests": %%d, "statuses": %%d, "broken": %%d, "p50": %%f, "p99": %%f, "max": %%f}',
    summary.duration, summary.requests, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
  file:close()
end
"""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST; `path` starts with a slash."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured. `generator_cpu` is the share of one core that wrk itself used: near 1, it is the limit."""

    rps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    requests: int
    errors: int  # replies of 400 and up, broken connections, time-outs
    generator_cpu: float


def run(url: str, requests: Sequence[Request], connections: int, seconds: float, pause: int = 0) -> Figures:
    """Put load on `url` (http://host:port) from so many connections, each waiting for its reply, and then for `pause`
    milliseconds, before its next request.

    Raises MarserveError where wrk is not installed, cannot connect, or gets no reply at all.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise MarserveError("wrk is not installed: `make deps`, or `apt-get install wrk`")
    with tempfile.TemporaryDirectory(prefix="marserve-wrk-") as scratch:
        folder = Path(scratch)
        (folder / "script.lua").write_text(_script(folder, requests, pause))
        command = [wrk, "--threads", "1", "--connections", str(connections), "--duration", f"{max(1, round(seconds))}s"]
        command += ["--timeout", f"{REPLY_TIMEOUT}s", "--script", str(folder / "script.lua"), url]
        with (folder / "wrk.log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
        try:
            found = json.loads((folder / "out.json").read_text())
        except (FileNotFoundError, ValueError):
            said = (folder / "wrk.log").read_text(errors="replace").strip().splitlines()
            raise MarserveError(f"wrk failed on {url}: {said[-1] if said else 'it said nothing'}") from None
    if not found["requests"]:
        raise MarserveError(f"{url} answered none of wrk's requests")
    elapsed = found["microseconds"] / 1e6
    return Figures(
        rps=found["requests"] / elapsed,
        p50_ms=found["p50"] / 1000,
        p99_ms=found["p99"] / 1000,
        max_ms=found["max"] / 1000,
        requests=found["requests"],
        errors=found["statuses"] + found["broken"],
        generator_cpu=(usage.ru_utime + usage.ru_stime) / elapsed,
    )


def _script(folder: Path, requests: Sequence[Request], pause: int) -> str:
    lines = []
    for index, request in enumerate(requests):
        body = folder / f"{index}.body"
        body.write_bytes(request.body)
        headers = ", ".join(f"[{_lua(name)}] = {_lua(value)}" for name, value in request.headers.items())
        path = _lua(request.path)
        lines.append(f'  requests[{index + 1}] = wrk.format("POST", {path}, {{{headers}}}, content({_lua(str(body))}))')
    script = _SCRIPT % {"requests": "\n".join(lines), "output": folder / "out.json", "pause": pause}
    return script if pause else script.replace("function delay", "function never")  # asking costs time


def _lua(text: str) -> str:
    """A Lua string literal: decimal escapes for all that is not plain."""
    plain = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in text.encode())
    return f'"{plain}"'
