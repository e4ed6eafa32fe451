"""A real `marserve edge` before a real server, and a model that does what it is told."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loadtest.bench.processes import free_port
from tests.e2e.server import MARSERVE, Server
from tests.paths import ROOT
from tests.tools import need

# Its requests are `word argument`.
PUPIL = """
import hashlib
import json
import os
import signal
import time


class Pupil:
    def initialize(self, context):
        self.initialized = True

    def handle(self, rows, context):
        return [self.obey(index, row, context) for index, row in enumerate(rows)]

    def obey(self, index, row, context):
        word, _, argument = bytes(row.get("body") or row.get("data") or b"").partition(b" ")
        if word == b"sleep":
            time.sleep(float(argument))
        elif word == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == b"exit-once" and not os.path.exists(argument):
            open(argument, "w").close()
            os._exit(3)
        elif word == b"fail":
            context.set_response_status(500, "Internal Server Error", index)
            return json.dumps({"error": {"code": "internal", "message": "a fault of ours"}})
        elif word == b"version":
            version = context.manifest["model"]["modelVersion"]
            return json.dumps({"version": version, "digest": hashlib.sha256(argument).hexdigest()})
        elif word == b"headers":
            return json.dumps(context.get_all_request_header(index))
        return json.dumps({"word": word.decode(errors="replace")})
"""
PUPIL_CONFIG = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 1\nmaxBatchDelay: 1\nresponseTimeout: 5\n"


@dataclass(frozen=True, slots=True)
class Edge:
    process: subprocess.Popen[str]
    port: int
    settings: Path
    summary: str
    scheme: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.port - 1010}"

    @property
    def metrics(self) -> str:
        return f"http://127.0.0.1:{self.port + 2}/metrics"

    @property
    def access_log(self) -> Path:
        return Path(next(line.split()[-1] for line in self.summary.splitlines() if line.startswith("access log")))

    def reload(self) -> subprocess.CompletedProcess[str]:
        return marserve("edge", "reload", "--port", str(self.port))


@contextmanager
def edging(server: Server | int, folder: Path, settings: dict[str, Any]) -> Iterator[Edge]:
    """An edge in the foreground with these settings, before a server or that port; ready; ended at last."""
    need("haproxy")
    path = folder / "edge.yaml"
    path.write_text(yaml.safe_dump(settings))
    port = free_port()
    behind = server if isinstance(server, int) else server.port
    command = [*MARSERVE, "edge", "start", "--config", str(path), "--port", str(port), "--server-port", str(behind)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("logs"):
                break
        else:
            raise AssertionError(f"marserve edge ended with {process.wait()}:\n{''.join(lines)}")
        yield Edge(process, port, path, "".join(lines), "https" if "tls" in settings else "http")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        process.stdout.close()


def marserve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MARSERVE, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)


def edges_processes(port: int) -> list[int]:
    """HAProxy's, which have the run folder on their command line."""
    marker = f"marserve-{os.getuid()}/edge-{port}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if marker in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
