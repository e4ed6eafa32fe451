"""Who reaches an edge: the addresses that are open, connections of one client, TLS, and keys that come and go."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from marserve.edge.process import EdgeDir, processes
from tests.e2e.edge import edges_processes, edging, marserve
from tests.e2e.server import Server
from tests.e2e.test_edge_grpc import code, predict
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
            busy = pool.submit(old.post, ASK, content=b"sleep 4", headers=key, timeout=30)
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
