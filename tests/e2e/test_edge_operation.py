"""An edge's life: TLS, keys that come and go, reloads and ends that cost nobody a request, and what it leaves open."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
import yaml

from loadtest.bench.processes import free_port
from marserve.edge.process import EdgeDir, processes
from marserve.rates import read_samples
from tests.e2e.edge import PUPIL, PUPIL_CONFIG, edging, marserve
from tests.e2e.server import MARSERVE, Server, java_of, processes_of
from tests.e2e.test_boot import write_bare
from tests.e2e.test_edge_grpc import code, predict
from tests.e2e.test_reliability import wait_for
from tests.paths import ROOT
from tests.tools import need

ASK = "/predictions/pupil"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For 127.0.0.1, by nobody."""
    need("openssl")
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    pem = (folder / "certificate.pem").read_bytes() + (folder / "key.pem").read_bytes()
    (folder / "edge.pem").write_bytes(pem)
    return folder / "edge.pem"


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


def listening(pids: list[int]) -> set[str]:
    """The addresses, in hexadecimal, that these processes listen on."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and row[9] in inodes}


def test_nothing_but_loopback_is_open(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {}) as edge:
        found = listening(edges_processes(edge.port))
        ports = {edge.port, edge.port - 1010, edge.port + 2}
        assert found == {f"0100007F:{port:04X}" for port in ports}


def test_one_client_may_have_so_many_connections(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {"limits": {"connections_per_client": 3}}) as edge:
        with ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(httpx.Client(base_url=edge.url))
                assert client.get("/health").status_code == 200
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{edge.url}/health")
            assert client.post(ASK, content=b"x").status_code == 200
        assert httpx.post(f"{edge.url}{ASK}", content=b"x").status_code == 200


def test_tls(pupil: Server, tmp_path: Path, certificate: Path) -> None:
    with edging(pupil, tmp_path, {"tls": {"certificate": str(certificate)}}) as edge:
        context = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=edge.url, verify=context) as client:
            assert client.post(ASK, content=b"x").status_code == 200
        assert httpx.get(f"{edge.url}/health", verify=context).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{edge.url}/health")  # signed by nobody that is trusted
        old = ssl.create_default_context(cafile=str(certificate))
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{edge.url}/health", verify=old)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{edge.port}/health")
        trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(edge.grpc, trusted) as channel:
            assert predict(channel, b"x") == b'{"word": "x"}'
        for alpn in ("h2", "http/1.1"):
            context.set_alpn_protocols([alpn])
            with socket_to(edge.port) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                assert secure.selected_alpn_protocol() == alpn


@contextmanager
def socket_to(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        yield connection


def test_keys_come_and_go_while_it_runs(pupil: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with edging(pupil, tmp_path, {"keys": "keys.json"}) as edge, httpx.Client(base_url=edge.url) as client:
        config = ["--config", str(edge.settings)]

        def ask(**headers: str) -> int:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.post(ASK, content=b"x", headers=names).status_code

        refused = client.post(ASK, content=b"x")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert client.get("/health").status_code == 200  # of no use to anyone else
        made = marserve("keys", "create", "alice", *config)
        secret = made.stdout.strip()
        assert made.returncode == 0, made.stderr
        assert len(secret) >= 43  # 256 bits in base64
        assert ask(Authorization=f"Bearer {secret}") == ask(X_API_Key=secret) == 200
        for wrong in ("", "Bearer", f"Bearer {secret}x", f"Basic {secret}", secret):
            assert ask(Authorization=wrong) == 401, wrong
        assert ask(X_API_Key=secret[:-1]) == ask(X_API_Key="") == 401
        assert ask(X_API_Key=client_hash(secret)) == 401
        assert marserve("keys", "create", "alice", *config).returncode == 1
        assert "alice" in marserve("keys", "list", *config).stdout

        (tmp_path / "x").write_bytes(b"x")
        for how in (["--url", edge.url], ["--grpc", "--grpc-address", edge.grpc]):
            for given, word, exit_code in ((secret, '"word"', 0), ("wrong", "valid key", 1)):
                monkeypatch.setenv("MARSERVE_KEY", given)
                asked = marserve("predict", ASK.rpartition("/")[2], str(tmp_path / "x"), "--json", *how)
                assert (asked.returncode, word in asked.stdout) == (exit_code, True), asked

        slow = marserve("keys", "create", "bob", "--rate", "5", *config).stdout.strip()
        counts = Counter(ask(X_API_Key=slow) for _ in range(50))
        assert counts[200] >= 5
        assert counts[429] >= 20
        over = client.post(ASK, content=b"x", headers={"x-api-key": slow})
        assert (over.status_code, over.json()["error"]["code"], over.headers["retry-after"]) == (429, "over_rate", "1")
        assert ask(X_API_Key=secret) == 200  # another's rate is not hers

        with grpc.insecure_channel(edge.grpc) as channel:
            assert code(lambda: predict(channel, b"x")) == grpc.StatusCode.UNAUTHENTICATED
            assert predict(channel, b"x", metadata=[("x-api-key", secret)]) == b'{"word": "x"}'
            assert predict(channel, b"x", metadata=[("authorization", f"Bearer {secret}")]) == b'{"word": "x"}'
            with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
                [predict(channel, b"x", metadata=[("x-api-key", slow)]) for _ in range(50)]

        with ThreadPoolExecutor() as pool, httpx.Client(base_url=edge.url) as old:
            key = {"x-api-key": secret}
            busy = pool.submit(old.post, ASK, content=b"sleep 2", headers=key, timeout=30)
            time.sleep(0.5)
            assert edge.reload().returncode == 0
            assert len(processes(EdgeDir(edge.port)).old) == 1  # it ends what it has begun
            assert ask(X_API_Key=secret) == 200
            assert marserve("keys", "revoke", "alice", *config).returncode == 0
            assert ask(X_API_Key=secret) == 401
            assert busy.result().status_code == 200
        assert marserve("keys", "revoke", "alice", *config).returncode == 1
        os.kill(min(edges_processes(edge.port)), signal.SIGKILL)  # the master process
        assert edge.process.stdout is not None
        while "HAProxy is ready again after" not in edge.process.stdout.readline():
            assert edge.process.poll() is None
        assert ask(X_API_Key=secret) == 401
        assert ask(X_API_Key=slow) == 200
        lines = [json.loads(line) for line in edge.access_log.read_text().splitlines()]
        assert {line["key"] for line in lines} == {"-", "alice", "bob"}
        seen = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        seen += [path.read_bytes() for path in edge.access_log.parent.parent.rglob("*") if path.is_file()]
        for kept in (secret, slow):
            assert not any(kept.encode() in content for content in seen)
        assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def client_hash(secret: str) -> str:
    """What is kept of a key is no key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def test_reloads_under_load_drop_nothing(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {}) as edge:
        stop = threading.Event()

        def ask(keep_alive: bool) -> Counter[int]:
            statuses: Counter[int] = Counter()
            with httpx.Client(base_url=edge.url, timeout=30) as client:
                while not stop.is_set():
                    headers = {} if keep_alive else {"connection": "close"}
                    statuses[client.post(ASK, content=b"sleep 0.02", headers=headers).status_code] += 1
            return statuses

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, bool(number % 2)) for number in range(8)]
            try:
                for size in (2**20, 2**21, 2**22):
                    edge.settings.write_text(yaml.safe_dump({"limits": {"body_bytes": size}}))
                    done = edge.reload()
                    assert (done.returncode, done.stderr) == (0, "")
                    assert httpx.post(f"{edge.url}{ASK}", content=bytes(size + 1)).status_code == 413
            finally:
                stop.set()
            for future in asking:
                statuses = future.result()
                assert set(statuses) == {200}
                assert statuses[200] > 5


def test_settings_that_are_wrong_leave_it_as_it_is(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {}) as edge:
        (tmp_path / "broken.pem").write_text("nothing")
        wrong = {
            "unknown keys: size": {"limits": {"size": 1}},
            "broken.pem": {"tls": {"certificate": "broken.pem"}},
        }
        before = edges_processes(edge.port)
        for reason, settings in wrong.items():
            edge.settings.write_text(yaml.safe_dump(settings))
            done = edge.reload()
            assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
            assert reason in done.stderr
            checked = marserve("edge", "check", "--config", str(edge.settings))
            assert (checked.returncode, len(checked.stderr.splitlines())) == (1, 1)
            assert reason in checked.stderr
        assert edges_processes(edge.port) == before
        with socket.socket() as taken:  # which HAProxy finds out only when it tries
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            shifted = taken.getsockname()[1] - (edge.port - 8090)
            edge.settings.write_text(yaml.safe_dump({"listen": {"metrics": f"127.0.0.1:{shifted}"}}))
            done = edge.reload()
            assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
            assert "HAProxy keeps the settings it has: Binding" in done.stderr
        assert httpx.post(f"{edge.url}{ASK}", content=b"x").status_code == 200


def test_it_ends_what_it_has_begun(pupil: Server, tmp_path: Path) -> None:
    model = {"in_flight": 1, "queue": 10}
    with edging(pupil, tmp_path, {"model": model}) as edge, ThreadPoolExecutor() as pool:
        with httpx.Client(base_url=edge.url, timeout=30) as idle:
            assert idle.get("/health").status_code == 200  # a connection that stays open
            asked = [pool.submit(httpx.post, f"{edge.url}{ASK}", content=b"sleep 0.4", timeout=30) for _ in range(4)]
            wait_for(lambda: 'haproxy_backend_current_queue{proxy="rest.pupil"} 3' in httpx.get(edge.metrics).text)
            edge.process.send_signal(signal.SIGTERM)
            assert [one.result().status_code for one in asked] == [200] * 4
            assert edge.process.wait(10) == 0
        assert edges_processes(edge.port) == []


def test_haproxy_ends_though_marserve_is_killed(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {}) as edge:
        assert len(edges_processes(edge.port)) >= 2  # master and worker
        edge.process.kill()
        edge.process.wait()
        wait_for(lambda: edges_processes(edge.port) == [], 15)


def test_a_server_that_dies_and_comes_back(tmp_path: Path) -> None:
    write_bare(tmp_path, "pupil", PUPIL, PUPIL_CONFIG)
    port = free_port()
    command = ["--model-store", str(tmp_path), "--port", str(port)]
    with edging(port, tmp_path, {"model": {"reply_seconds": 10}}) as edge, ThreadPoolExecutor() as pool:
        for _ in range(2):
            assert marserve("serve", "--detach", *command).returncode == 0
            try:
                wait_for(lambda: httpx.get(f"{edge.url}/health").status_code == 200)
                asked = pool.submit(httpx.post, f"{edge.url}{ASK}", content=b"sleep 1", timeout=30)
                time.sleep(0.5)
                os.kill(java_of(port), signal.SIGKILL)
                lost = asked.result()
                assert (lost.status_code, lost.json()["error"]["code"]) == (502, "no_reply")
                wait_for(lambda: httpx.get(f"{edge.url}/health").status_code == 503)
                wait_for(lambda: httpx.get(f"{edge.url}/health").status_code == 200)
                assert httpx.post(f"{edge.url}{ASK}", content=b"x", timeout=30).status_code == 200
            finally:
                marserve("stop", "--port", str(port))
            late = httpx.post(f"{edge.url}{ASK}", content=b"x", timeout=30)
            assert (late.status_code, late.json()["error"]["code"]) == (503, "unavailable")


def test_two_on_one_port(pupil: Server, tmp_path: Path) -> None:
    with edging(pupil, tmp_path, {}) as edge:
        again = marserve("edge", "start", "--config", str(edge.settings), "--port", str(edge.port))
        assert (again.returncode, len(again.stderr.splitlines())) == (1, 1)
        assert f"a marserve edge is running on port {edge.port} already: `marserve edge stop --port" in again.stderr
        taken = marserve("edge", "start", "--config", str(edge.settings), "--port", str(edge.port + 2))
        assert "cannot listen on" in taken.stderr


def test_detach_and_stop(pupil: Server, tmp_path: Path) -> None:
    (tmp_path / "edge.yaml").write_text("access_log: requests.log\n")
    port = str(free_port())
    options = ["--config", str(tmp_path / "edge.yaml"), "--port", port, "--server-port", str(pupil.port)]
    started = marserve("edge", "start", "--detach", *options)
    try:
        assert started.returncode == 0, started.stderr
        assert f"`marserve edge stop --port {port}` stops it" in started.stdout
        assert httpx.post(f"http://127.0.0.1:{port}{ASK}", content=b"x").status_code == 200
    finally:
        stopped = marserve("edge", "stop", "--port", port)
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert edges_processes(int(port)) == []
    assert json.loads((tmp_path / "requests.log").read_text())["status"] == 200
    for verb in ("stop", "reload"):
        nothing = marserve("edge", verb, "--port", port)
        assert (nothing.returncode, nothing.stderr) == (
            1,
            f"error: no marserve edge of yours is running on port {port}\n",
        )


def test_server_and_edge_together(tmp_path: Path, challenge: bytes) -> None:
    """`make serve-edge`: both come up, and at the end what was asked is answered."""
    need("haproxy")
    (tmp_path / "edge.yaml").write_text("access_log: '-'\n")
    port, edge_port = free_port(), free_port()
    command = [*MARSERVE, "serve", "--port", str(port), "--models", "captcha_challenge"]
    command += ["--edge", str(tmp_path / "edge.yaml"), "--edge-port", str(edge_port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("access log"):
                    break
            assert "the edge is ready" in "".join(lines)
            assert "captcha_challenge, all other models share one" in "".join(lines)
            url = f"http://127.0.0.1:{edge_port}/predictions/captcha_challenge"
            headers = {"content-type": "application/json"}
            with ThreadPoolExecutor() as pool:
                asked = [pool.submit(httpx.post, url, content=challenge, headers=headers, timeout=30) for _ in range(8)]
                wait_for(lambda: _begun(edge_port) == 8)
                process.send_signal(signal.SIGINT)
                statuses = {one.result().status_code for one in asked}
            assert statuses == {200}
            assert process.wait(60) == 0
        finally:
            process.kill()
        rest = process.stdout.read()
    assert rest.index("the edge is stopped") < rest.index("\nstopped")
    assert [json.loads(line)["status"] for line in rest.splitlines() if line.startswith("{")] == [200] * 8
    assert processes_of(port) == []
    assert edges_processes(edge_port) == []


def _begun(edge_port: int) -> float:
    """Requests over REST whose headers the edge has read."""
    samples = read_samples(httpx.get(f"http://127.0.0.1:{edge_port + 2}/metrics").text)
    name = "haproxy_frontend_http_requests_total"
    return sum(value for (found, labels), value in samples.items() if found == name and ("proxy", "rest") in labels)


def test_a_server_whose_edge_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "edge.yaml").write_text("limits: {size: 1}\n")
    port = free_port()
    done = marserve(
        "serve", "--port", str(port), "--models", "captcha_challenge", "--edge", str(tmp_path / "edge.yaml")
    )
    assert done.returncode == 1
    assert "limits has unknown keys: size" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert processes_of(port) == []


@pytest.fixture
def challenge() -> bytes:
    return (ROOT / "tests" / "e2e" / "challenge.json").read_bytes()
