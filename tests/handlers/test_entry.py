"""The handler as TorchServe drives it: an unpacked archive, a context, batches of rows."""

from __future__ import annotations

import inspect
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from handlers import entry, image, metrics
from handlers.entry import Handler
from handlers.errors import SpecError
from tests.handlers.networks import LABELS, SIDE, write_classifier, write_digests
from tests.images import encode
from tests.paths import CASCADE, FACE

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)  # torchserve leaves the file with its version open
    from ts.context import Context, RequestProcessor
from tests.handlers.pools import write_pool

CONFIG: dict[str, Any] = {
    "minWorkers": 1,
    "handler": {
        "task": "image_classification",
        "labels": list(LABELS),
        "network": {"file": "model.onnx", "input_shape": [SIDE, SIDE, 3]},
    },
}
RED = encode(np.full((9, 9, 3), (250, 0, 0), np.uint8), "PNG")


@pytest.fixture(autouse=True)
def settings_of_the_process() -> Iterator[None]:
    """The handler sets the log level, OpenCV's threads and a variable for its whole worker."""
    level, threads = logging.getLogger().level, cv2.getNumThreads()
    yield
    os.environ.pop(entry.MEMORY_LIMIT, None)
    logging.getLogger().setLevel(level)
    cv2.setNumThreads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classifier(tmp_path / "model.onnx")
    write_digests(tmp_path)
    return tmp_path


def context_of(folder: Path, config: Any = CONFIG, gpu: int | None = None) -> Any:
    return Context("colours", str(folder), {}, 4, gpu, "0.12.0", model_yaml_config=config)


def handle(handler: Handler, context: Any, rows: list[dict[str, Any]], headers: dict[str, str]) -> list[Any]:
    context.request_processor = [RequestProcessor(headers) for _ in rows]
    return [json.loads(body) for body in handler.handle(rows, context)]


def test_torchserves_loader_finds_one_class() -> None:
    """`ts.model_loader` takes the classes whose module is the handler's and refuses more than one."""
    classes = [kind for _, kind in inspect.getmembers(entry, inspect.isclass) if kind.__module__ == entry.__name__]
    assert classes == [Handler]


@pytest.mark.parametrize("gpu", [None, 0])
def test_a_batch(folder: Path, gpu: int | None) -> None:
    handler, context = Handler(), context_of(folder, gpu=gpu)
    handler.initialize(context)
    rows: list[dict[str, Any]] = [{"body": RED}, {"body": b"garbage"}, {}, {"data": RED}, {"body": {"instances": [5]}}]
    replies = handle(handler, context, rows, {"accept": "*/*"})
    assert [reply.get("label") for reply in replies] == ["red", None, None, "red", None]
    statuses = [context.get_response_status(index) for index in range(5)]
    assert [status for status, _ in statuses] == [200, 415, 422, 200, 200]
    assert [phrase for _, phrase in statuses[1:3]] == ["Unsupported Media Type", "Unprocessable Entity"]
    for index in range(5):
        assert context.get_response_headers(index) == {"content-type": "application/json"}


def test_a_warm_up_request_is_told_the_worker(folder: Path) -> None:
    handler, context = Handler(), context_of(folder)
    handler.initialize(context)
    handle(handler, context, [{"body": RED}, {"body": b""}], {entry.WARM_UP_HEADER: "1"})
    for index in range(2):
        assert context.get_response_headers(index)[entry.WORKER_HEADER] == str(os.getpid())


def test_requests_to_explanations(folder: Path) -> None:
    """TorchServe marks them, each request of a batch for itself, and puts "False" on all others."""
    handler, context = Handler(), context_of(folder)
    handler.initialize(context)
    headers = [{"explain": "False"}, {"explain": "True"}, {}, {"explain": {"content-type": "text/plain"}}]
    context.request_processor = [RequestProcessor(header) for header in headers]
    replies = [json.loads(body) for body in handler.handle([{"body": RED}] * 4, context)]
    assert [reply.get("label") for reply in replies] == ["red", None, "red", "red"]
    assert context.get_response_status(1) == (422, "Unprocessable Entity")
    assert "does not explain" in replies[1]["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "media_type"),
    [
        ({"explain": "False"}, "image/jpeg"),
        ({"explain": "False", "Accept": "image/png"}, "image/png"),
        ({"explain": "False", "accept": "application/json"}, "application/json"),  # as HTTP/2 and proxies write it
        ({"explain": "False", "accept": {"content-type": "image/png"}}, "image/jpeg"),  # a form's field of that name
        ({}, "application/json"),  # over gRPC, which has no headers
        ({"data": {"content-type": "image/png"}}, "application/json"),
    ],
)
def test_what_a_request_would_like(tmp_path: Path, headers: dict[str, Any], media_type: str) -> None:
    shutil.copy(CASCADE, tmp_path / "cascade.xml")
    write_digests(tmp_path)
    handler, context = Handler(), context_of(tmp_path, {"handler": {"task": "face_mosaic", "cascade": "cascade.xml"}})
    handler.initialize(context)
    context.request_processor = [RequestProcessor(headers)]
    (body,) = handler.handle([{"body": FACE.read_bytes()}], context)
    sent = context.get_response_headers(0)
    assert (sent["content-type"], context.get_response_status(0)[0]) == (media_type, 200)
    if media_type == "application/json":
        assert set(sent) == {"content-type"}
        assert len(json.loads(body)["faces"]) == 1
    else:
        assert image.media_type(body) == media_type
        assert sent["X-Face-Count"] == "1"
        assert json.loads(sent["X-Face-Boxes"])


def test_what_the_handler_sets_for_its_worker(folder: Path) -> None:
    logging.getLogger().setLevel(logging.INFO)
    Handler().initialize(context_of(folder))
    assert logging.getLogger().level == logging.WARNING
    assert cv2.getNumThreads() == 1


@pytest.mark.parametrize("config", [None, {}, {"handler": {}}, {"handler": CONFIG["handler"] | {"labels": []}}])
def test_a_wrong_config_is_not_served(folder: Path, config: Any) -> None:
    with pytest.raises(SpecError, match="handler"):
        Handler().initialize(context_of(folder, config))


def test_a_damaged_archive_is_not_served(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(SpecError, match=r"model\.onnx is not the file that was packed"):
        Handler().initialize(context_of(folder))


def test_overrides_of_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the model's name; what they do not name stays the archive's."""

    def network(overrides: str) -> Any:
        monkeypatch.setenv(entry.OVERRIDES, overrides)
        handler = Handler()
        handler.initialize(context_of(folder))
        assert handler._pipeline.network is not None
        return handler._pipeline.network.spec

    own, other = network('{"other": {"chunk": 9}}'), network('{"colours": {"chunk": 9, "threads": 2}}')
    assert (own.chunk, own.threads) == (4, 1)
    assert (other.chunk, other.threads, other.input_shape) == (9, 2, own.input_shape)
    assert CONFIG["handler"]["network"].keys() == {"file", "input_shape"}
    with pytest.raises(SpecError, match=r"handler\.network\.chunk must be at least 1"):
        network('{"colours": {"chunk": 0}}')


def test_where_the_pool_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own, unless the operator names one for all; a default one only where there is none of its own."""
    write_pool(tmp_path / "inside", {"red": 2, "blue": 2})
    write_pool(tmp_path / "other", {"red": 3, "blue": 5})
    write_digests(tmp_path)

    def size(**section: str) -> int:
        context = context_of(tmp_path, {"handler": {"task": "random_images", **section}})
        handler = Handler()
        handler.initialize(context)
        (reply,) = handle(handler, context, [{"body": {"kind": "drag_drop", "count": 4}}], {})
        size: int = reply["pool"]["size"]
        return size

    assert size(pool="inside") == 4
    monkeypatch.setenv("MARSERVE_DEFAULT_POOL", str(tmp_path / "other"))
    assert size(pool="inside") == 4
    assert size() == 8
    monkeypatch.setenv("MARSERVE_POOL", str(tmp_path / "other"))
    assert size(pool="inside") == 8
    monkeypatch.setenv("MARSERVE_POOL", str(tmp_path / "missing"))
    with pytest.raises(SpecError, match="is no pool"):
        size(pool="inside")


def test_a_batch_is_measured(folder: Path, tmp_path: Path) -> None:
    """In a worker of its own: prometheus_client looks at the environment when it is imported."""
    code = (
        "import sys, warnings\n"
        "from handlers.entry import Handler\n"
        "from tests.handlers.test_entry import CONFIG, RED, context_of, handle\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "from prometheus_client import CollectorRegistry\n"
        "from pathlib import Path\n"
        "import time\n"
        "handler, context = Handler(), context_of(Path(sys.argv[1]))\n"
        "context.manifest = {'model': {'modelVersion': '1.5'}}\n"
        "handler.initialize(context)\n"
        "for name in ('X-Request-Start', 'x-request-start', 'other'):\n"
        "    handle(handler, context, [{'body': RED}, {}], {name: f't={time.time() - 9}'})\n"
        "handler.metrics.write()\n"
        "registry = CollectorRegistry()\n"
        "MultiProcessCollector(registry)\n"
        "def value(name, **labels):\n"
        "    return registry.get_sample_value(name, {'model': 'colours', 'version': '1.5', **labels})\n"
        "print(value('marserve_replies_total', code='200'), value('marserve_replies_total', code='422'))\n"
        "print(*(value('marserve_stage_seconds_count', stage=stage) for stage in ('queue', 'run')))\n"
        "assert 36 <= value('marserve_stage_seconds_sum', stage='queue') < 60\n"
        "assert value('marserve_stage_seconds_sum', stage='run') > 0\n"
    )
    files = tmp_path / "metrics"
    files.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), metrics.FOLDER: str(files)}
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["3.0", "3.0", "4.0", "3.0"]), done.stderr


@pytest.mark.parametrize(("limit", "kept"), [(0, "0"), (1_000_000, "1000000"), (1, "0")])
def test_a_limit_of_memory_is_told_unless_a_fresh_worker_is_over_it(
    limit: int, kept: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"handler": {**CONFIG["handler"], "memory_limit_mb": limit}}
    Handler().initialize(context_of(folder, config))
    assert os.environ[entry.MEMORY_LIMIT] == kept
    assert ("there is no limit now, raise it" in caplog.text) == (limit == 1)


def test_a_replacement_is_counted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import json, sys\n"
        "from prometheus_client import CollectorRegistry\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "from handlers.entry import Handler\n"
        "from ts.context import Context\n"
        "manifest = {'model': {'modelVersion': '1.5'}}\n"
        "config = json.loads(sys.argv[2])\n"
        "Handler().initialize(Context('colours', sys.argv[1], manifest, 4, None, '0', model_yaml_config=config))\n"
        "registry = CollectorRegistry()\n"
        "MultiProcessCollector(registry)\n"
        "labels = {'model': 'colours', 'version': '1.5'}\n"
        "print(registry.get_sample_value('marserve_worker_replacements_total', labels))\n"
    )
    files = tmp_path / "metrics"
    files.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), metrics.FOLDER: str(files)}
    for variables, count in (({}, "0.0"), ({entry.RESUME: "{}"}, "1.0")):
        command = [sys.executable, "-c", code, str(folder), json.dumps(CONFIG)]
        done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, count), done.stderr
