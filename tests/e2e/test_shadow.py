"""Two versions of a model on a real server: what clients send is answered by the one and compared with the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from marserve.errors import MarserveError
from marserve.management import Management
from marserve.protos import inference_pb2, inference_pb2_grpc
from marserve.rundir import RunDir
from marserve.settings import Address, addresses
from marserve.shadow import priority
from marserve.shadow import run as shadow
from marserve.shadow.outcome import Options, Outcome
from tests.e2e.server import Server, serving
from tests.e2e.test_boot import write_bare
from tests.paths import ROOT

# Its label is what it sees of a request; the second version is slow, wrong or failing where it is told.
TWIN = """
import json
import time
from zlib import crc32


class Twin:
    def initialize(self, context):
        self.initialized, self.second = True, context.manifest["model"]["modelVersion"] == "2.0"

    def handle(self, rows, context):
        return [self.answer(index, row, context) for index, row in enumerate(rows)]

    def answer(self, index, row, context):
        headers = context.get_all_request_header(index)
        kinds = {name: (headers.get(name) or {}).get("content-type") or "octet-stream" for name in row}
        seen = [f"{name}:{crc32(bytes(body)):x}:{kinds[name].rpartition('/')[2]}" for name, body in row.items()]
        seen += [headers.get("X-Own", ""), "why" if headers.get("explain") == "True" else ""]
        word, _, argument = b" ".join(map(bytes, row.values())).partition(b" ")
        reply = {"label": " ".join(sorted(seen)), "probabilities": {"yes": 0.75, "no": 0.25}}
        if self.second and word == b"differ":
            reply |= {"label": "another", "probabilities": {"yes": 0.25, "no": 0.75}}
        if self.second and word == b"fail":
            context.set_response_status(500, "Internal Server Error", index)
        if self.second and word == b"sleep":
            time.sleep(float(argument))
        return json.dumps(reply)
"""
CONFIG = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 4\nmaxBatchDelay: 1\nresponseTimeout: 20\n"
URL = "/predictions/twin"


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`twin` 1.0, which answers, and 2.0."""
    store = tmp_path_factory.mktemp("twins")
    for version in ("2.0", "1.0"):
        write_bare(store, "twin", TWIN, CONFIG, version)
    with serving("--model-store", str(store)) as server:
        httpx.put(f"{server.management}/models/twin/1.0/set-default").raise_for_status()
        yield server


def shadowed(server: Server, report: Path, clients: Callable[[httpx.Client], None], **options: Any) -> Outcome:
    """What a shadow finds while these clients are there."""
    own = Options("twin", "2.0", addresses({}, server.port), **{"seconds": 6.0, "report": report, **options})
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=server.url, timeout=30) as client:
        running = pool.submit(shadow.run, own)
        tap = RunDir(server.port).taps / "twin@1.0"
        while not (tap.exists() and str(os.getpid()) in tap.read_text()) and not running.done():
            time.sleep(0.01)
        clients(client)
        return running.result()


def post(client: httpx.Client, body: str) -> None:
    assert client.post(URL, content=body).status_code == 200


def test_a_candidate_that_differs_is_found_out(twins: Server, tmp_path: Path) -> None:
    def clients(client: httpx.Client) -> None:
        for number in range(100):
            word = "differ" if number % 10 == 0 else "fail" if number % 25 == 1 else "same"
            post(client, f"{word} {number}")

    outcome = shadowed(twins, tmp_path / "report", clients)
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (outcome.seen, outcome.compared, outcome.dropped, outcome.disagreements) == (100, 100, 0, 14)
    assert not outcome.agreed
    assert outcome.verdict == "2.0 differs from 1.0 of twin: 14 of 100 answers differ (14.00%, the limit is 1.00%)"
    assert {key: count for key, count in found["verdicts"].items() if count} == {"agrees": 86, "label": 10, "status": 4}
    assert found["statuses"] == [[200, 200, 96], [200, 500, 4]]
    assert found["drift"]["probabilities.yes"]["max"] == 0.5
    assert found["latency"]["new_from_outside"]["count"] == 100
    assert found["processor_seconds_per_request"]["new"] is not None
    files = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    assert set(files) == {"report.json", "report.md", "latency.svg", "drift.svg"}
    for word in (b"differ 0", b"differ 0".hex().encode()):  # nothing of a request
        assert not any(word in content for content in files.values())


def test_a_candidate_that_hangs_is_not_noticed_by_clients(twins: Server, tmp_path: Path) -> None:
    statuses = []

    def clients(client: httpx.Client) -> None:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            statuses.append(client.post(URL, content=b"sleep 3").status_code)

    outcome = shadowed(twins, tmp_path / "report", clients, limit=0.5, at_once=2)
    assert set(statuses) == {200}
    assert len(statuses) > 20
    assert outcome.seen == len(statuses)
    assert not outcome.agreed
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert found["verdicts"]["no answer"] == found["compared"] > 0
    assert outcome.dropped == outcome.seen - outcome.compared
    assert found["statuses"] == [[200, "timed out", outcome.compared]]


def test_every_form_of_a_request_reaches_the_candidate_as_it_was(twins: Server, tmp_path: Path) -> None:
    image = bytes(range(256)) * 4000

    def clients(client: httpx.Client) -> None:
        requests: list[dict[str, Any]] = [
            {"content": image, "headers": {"content-type": "image/jpeg", "X-Own": "mine"}},
            {"content": b""},
            {"json": {"data": "x"}},
            {"files": {"data": ("photo.jpg", image, "image/jpeg")}},
            {"files": {"body": ("photo.jpg", image)}},
            {"files": {"data": ("a", b"\xff\x00"), "more": ("b", b"y", "text/plain")}, "data": {"text": "h\xe9"}},
            {"data": {"a": "b"}},
        ]
        for request in requests:
            assert client.post(URL, **request).status_code == 200
        assert client.put(URL, content=image).status_code == 200
        assert client.post("/explanations/twin", content=b"why").status_code == 200
        assert client.post(URL, content=b"y", headers={"marserve-warm-up": "1"}).status_code == 200  # not a client's
        assert client.post(f"{URL}/2.0", content=b"x").status_code == 200  # nor is this answered by 1.0
        with grpc.insecure_channel(twins.grpc, [("grpc.enable_http_proxy", 0)]) as channel:
            ask = inference_pb2_grpc.InferenceAPIsServiceStub(channel).Predictions
            for fields in ({"data": image}, {"body": b"{}"}, {"file": b"a", "other": b"b"}):
                ask(inference_pb2.PredictionsRequest(model_name="twin", input=fields))

    outcome = shadowed(twins, tmp_path / "report", clients)
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (outcome.seen, outcome.compared) == (12, 12)
    assert outcome.agreed, [pair for pair in found["labels"] if pair[0] != pair[1]]


# What a terminal runs.
ALONE = """
import sys
from pathlib import Path
from marserve.shadow import run as shadow
from marserve.shadow.outcome import Options
from marserve.settings import addresses

print(shadow.run(Options("twin", "2.0", addresses({}, int(sys.argv[1])), 60, report=Path(sys.argv[2]))).verdict)
"""


@contextmanager
def alone(server: Server, report: Path) -> Iterator[subprocess.Popen[str]]:
    """A shadow that a signal ends; it has compared a few answers."""
    command = [sys.executable, "-c", ALONE, str(server.port), str(report)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while not (RunDir(server.port).taps / "twin@1.0").exists():
            assert process.poll() is None
            time.sleep(0.01)
        for number in range(5):
            httpx.post(f"{server.url}{URL}", content=b"%d" % number).raise_for_status()
        time.sleep(1)
        yield process


def workers(server: Server) -> list[int]:
    management = Management(Address("127.0.0.1", server.port + 1))
    try:
        return priority.pids(priority.find(management, "twin", "2.0"))
    finally:
        management.close()


def test_ctrl_c_ends_it_with_a_report(twins: Server, tmp_path: Path) -> None:
    with alone(twins, tmp_path / "report") as process:
        assert priority.lowered(workers(twins))
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert said == "2.0 agrees with 1.0 of twin: 0 of 5 answers differ (0.00%, the limit is 1.00%)\n"
    assert (tmp_path / "report" / "report.md").exists()
    assert not list(RunDir(twins.port).taps.iterdir())
    assert not priority.lowered(workers(twins))


def test_after_a_killed_shadow_all_is_as_before(twins: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    with alone(twins, tmp_path / "killed") as process:
        process.kill()
    for number in range(20):
        assert httpx.post(f"{twins.url}{URL}", content=b"%d" % number).status_code == 200
    before = workers(twins)
    assert priority.lowered(before) == before
    with monkeypatch.context() as patch:  # as for anybody but root
        patch.setattr(os, "sched_setscheduler", refuse)
        said = priority.restore(addresses({}, twins.port).management, RunDir(twins.port).slots, "twin", "2.0")
    assert said == "replaced one worker, which had run at the lowest priority"
    assert not priority.lowered(workers(twins))
    assert not set(workers(twins)) & set(before)
    outcome = shadowed(twins, tmp_path / "report", lambda client: post(client, "x"), seconds=3.0)
    assert (outcome.seen, outcome.compared, outcome.agreed) == (1, 1, True)


@pytest.mark.parametrize(
    ("model", "version", "said"),
    [
        ("twin", "3.0", "twin has no version 3.0 there: it has 1.0, 2.0"),
        ("other", "1.0", "other has no version 1.0 there: no model of that name"),
        ("twin", "1.0", "twin 1.0 answers all requests already: there is nothing to shadow"),
    ],
)
def test_what_cannot_be_shadowed(twins: Server, tmp_path: Path, model: str, version: str, said: str) -> None:
    with pytest.raises(MarserveError, match=said):
        shadow.run(Options(model, version, addresses({}, twins.port), 5, report=tmp_path / "report"))
    assert not (tmp_path / "report").exists()
