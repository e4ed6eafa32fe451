"""Tiny servers that answer as a model would, or wrongly. tests/e2e runs the same tool against TorchServe."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc

from marserve.protos import inference_pb2, inference_pb2_grpc

Answer = Callable[[str], tuple[int, bytes]]  # the model's name -> status and reply


@contextmanager
def rest_server(answer: Answer) -> Iterator[str]:
    """Its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, reply = answer(self.path.removeprefix("/predictions/"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_server(answer: Answer) -> Iterator[str]:
    """Its address. As with TorchServe, a status does not reach the client."""

    class Service(inference_pb2_grpc.InferenceAPIsServiceServicer):  # type: ignore[misc]
        def Predictions(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
            _, reply = answer(request.model_name)
            return inference_pb2.PredictionResponse(prediction=reply)

    server = grpc.server(ThreadPoolExecutor(4))
    inference_pb2_grpc.add_InferenceAPIsServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def write_archive(folder: Path, name: str, task: str, example: dict[str, Any], **files: bytes) -> Path:
    """The least that an archive needs to be read."""
    path = folder / f"{name}.mar"
    with zipfile.ZipFile(path, "w") as archive:
        model = {"modelName": name, "modelVersion": "1.0", "configFile": "model-config.yaml"}
        manifest = {"runtime": "python", "model": model}
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("model-config.yaml", json.dumps({"handler": {"task": task, "example": example}}))
        archive.writestr("digests.json", "{}")  # says that marserve made it
        archive.writestr("metadata.json", "{}")
        for file, data in files.items():
            archive.writestr(file, data)
    return path
