"""A spec -> HAProxy's configuration. Text alone: knows no processes and reads no files.

REST and gRPC pass the same gates in the same order: path, method, size of the headers, key and its rate, size of the
body; then the whole body is waited for, and the request gets into its model's queue. What is refused is told in the
handlers' form over REST, and over gRPC as a status without a message.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from marserve.edge.spec import MODEL_NAME, Model, Spec
from marserve.settings import Address, Addresses

VERSION = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService"
METHODS = ("Ping", "Predictions", "StreamPredictions")  # StreamPredictions2 has no end that could be waited for
HEADERS_ROOM = 65536  # bytes of a buffer that are not the body's
HEADERS = 64  # lines of a request
RETRY_AFTER = 1  # seconds
# Headers that mean something to marserve or TorchServe, and that only the server itself may set.
INTERNAL_HEADERS = ("marserve-warm-up", "explain", "expect", "authorization", "x-api-key")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes no further: over REST a status and a code, over gRPC a status of its own."""

    status: int
    code: str
    grpc: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()

    def rest(self) -> str:
        """The arguments of `http-request return` and its like."""
        body = json.dumps({"error": {"code": self.code, "message": self.message}}, separators=(",", ":"))
        headers = "".join(f" hdr {name} {shlex.quote(value)}" for name, value in self.headers)
        return f"status {self.status} content-type application/json string {shlex.quote(body)}{headers}"

    def over_grpc(self, status: int = 200) -> str:
        return f"status {status} hdr grpc-status {self.grpc} hdr grpc-message {shlex.quote(self.message)}"


_AGAIN = (("Retry-After", str(RETRY_AFTER)),)
BAD_REQUEST = Refusal(400, "bad_request", 3, "this is no valid HTTP request")
BAD_FORM = Refusal(400, "bad_request", 3, "the form is broken: a part without name, a bad boundary, charset or escape")
UNAUTHENTICATED = Refusal(
    401,
    "unauthenticated",
    16,
    "a valid key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
    (("WWW-Authenticate", "Bearer"),),
)
NOT_FOUND = Refusal(404, "not_found", 12, "there is /predictions/NAME, /explanations/NAME and /health")
NO_MODEL = Refusal(404, "not_found", 5, "no such model or version")
NOT_ALLOWED = Refusal(405, "not_allowed", 12, "use POST or PUT", (("Allow", "POST, PUT"),))
GET_ONLY = Refusal(405, "not_allowed", 12, "use GET", (("Allow", "GET, HEAD"),))
SLOW = Refusal(408, "too_slow", 4, "the request took too long to arrive")
OVERLOADED = Refusal(429, "overloaded", 8, "too many requests wait for this model: try again later", _AGAIN)
OVER_RATE = Refusal(429, "over_rate", 8, "more requests per second than this key may send", _AGAIN)
HEADERS_TOO_LARGE = Refusal(431, "headers_too_large", 8, "the headers are too large")
INTERNAL = Refusal(500, "internal", 13, "a fault of the server's")
DIED = Refusal(502, "worker_died", 14, "the worker died on this request, twice")
NO_REPLY = Refusal(502, "no_reply", 14, "the server broke off before it had answered")
UNAVAILABLE = Refusal(503, "unavailable", 14, "no server is ready", _AGAIN)
NO_WORKER = Refusal(503, "unavailable", 14, "no worker of this model is ready", _AGAIN)
TIMEOUT = Refusal(504, "timeout", 4, "the server did not answer in time")


@dataclass(frozen=True, slots=True)
class Files:
    """Where HAProxy finds what is not in its configuration."""

    keys: Path  # its map: a key's SHA-256 -> `<rate>:<name>`
    root: Path | None = None  # an empty folder to be locked into, as another user, when started by root


def configuration(spec: Spec, server: Addresses, files: Files) -> str:
    """The whole text. `server` is where TorchServe listens; its health is asked for beside its metrics."""
    parts = [_global(spec, files), *_fronts(spec, files), *_backends(spec, server)]
    return "\n\n".join(parts) + "\n"


def _global(spec: Spec, files: Files) -> str:
    limits = spec.limits
    jail = f"\n  chroot {shlex.quote(str(files.root))}\n  user haproxy\n  group haproxy" if files.root else ""
    return f"""global
  log stdout len 8192 format raw local0
  maxconn {limits.connections}
  nbthread 1
  hard-stop-after {_ms(limits.drain_seconds)}
  # A buffer holds a whole request. Memory is taken as it is filled.
  tune.bufsize {limits.body_bytes + HEADERS_ROOM}
  tune.h2.max-frame-size 16384
  tune.h2.initial-window-size 1048576
  tune.http.maxhdr 1024
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
  ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20{jail}

defaults
  mode http
  option abortonclose
  http-reuse always
  timeout connect 1s
  timeout check 2s
  timeout http-request {_ms(limits.header_seconds)}
  timeout http-keep-alive {_ms(limits.idle_seconds)}
  timeout client {_ms(max(limits.body_seconds, limits.idle_seconds))}
  timeout server 30s"""


def _fronts(spec: Spec, files: Files) -> Iterator[str]:
    tls = f" ssl crt {shlex.quote(str(spec.certificate))} alpn" if spec.certificate else ""
    rest_tls, grpc_tls = (f"{tls} h2,http/1.1", f"{tls} h2") if tls else ("", " proto h2")
    errors = {400: BAD_REQUEST, 408: SLOW, 500: INTERNAL, 502: NO_REPLY, 503: UNAVAILABLE, 504: TIMEOUT}
    yield f"""frontend rest
  bind {spec.rest}{rest_tls}
{_lines(f"http-error {refusal.rest()}" for refusal in errors.values())}
{_begin("rest")}
  http-request set-var(txn.model) path,field(3,/)
  acl health path /health
  acl known path -m reg '^/(predictions|explanations)/{MODEL_NAME}(/{VERSION})?$'
  http-request return {GET_ONLY.rest()} if health !METH_GET
  http-request return {UNAVAILABLE.rest()} if health {{ stopping }} || health {{ nbsrv(ready) eq 0 }}
  http-request return status 200 content-type application/json string '{{"status":"ready"}}' if health
  http-request return {NOT_FOUND.rest()} unless known
  http-request return {NOT_ALLOWED.rest()} unless {{ method POST PUT }}
  http-request return {HEADERS_TOO_LARGE.rest()} if {{ req.hdrs,length gt {spec.limits.header_bytes} }} || {{ req.hdr_cnt gt {HEADERS} }}
{_keys(spec, files, "rest")}
  http-request return {_too_large(spec).rest()} if {{ req.body_size gt {spec.limits.body_bytes} }}
  http-request wait-for-body time {_ms(spec.limits.body_seconds)}
  http-request return {_too_large(spec).rest()} if {{ req.body_len gt {spec.limits.body_bytes} }}
  http-request return {BAD_FORM.rest()} if {{ req.hdr(content-type) -m reg -i '^multipart/.*boundary=[ ;]*$' }}
{_forward()}
  http-request set-uri %[path]
{_torchserve_errors()}
{_end()}
  use_backend rest.%[var(txn.model)]
  default_backend rest"""
    yield f"""frontend grpc
  bind {spec.grpc}{grpc_tls}
{_lines(f"http-error {refusal.over_grpc(status)}" for status, refusal in errors.items())}
{_begin("grpc")}
  http-request return {NOT_FOUND.over_grpc()} unless {{ path {" ".join(f"{SERVICE}/{m}" for m in METHODS)} }} METH_POST
  http-request return {HEADERS_TOO_LARGE.over_grpc()} if {{ req.hdrs,length gt {spec.limits.header_bytes} }} || {{ req.hdr_cnt gt {HEADERS} }}
{_keys(spec, files, "grpc")}
  http-request return {_too_large(spec).over_grpc()} if {{ req.body_size gt {spec.limits.body_bytes} }}
  http-request wait-for-body time {_ms(spec.limits.body_seconds)}
  http-request return {_too_large(spec).over_grpc()} if {{ req.body_len gt {spec.limits.body_bytes} }}
  http-request set-var(txn.model) req.body,ungrpc(1)
{_forward()}
  # TorchServe's own statuses: INTERNAL where it knows no such model, UNKNOWN where a worker died.
  http-response set-var(txn.message) res.hdr(grpc-message)
  http-response set-header grpc-status {NO_MODEL.grpc} if {{ var(txn.message) -m beg 'Model ' }}
  http-response set-header grpc-status {DIED.grpc} if {{ var(txn.message) -m beg 'Worker died' }}
  http-after-response set-status 200
  http-after-response set-header content-type application/grpc
  http-after-response set-var(txn.grpc) res.hdr(grpc-status)
{_end()}
  use_backend grpc.%[var(txn.model)]
  default_backend grpc"""
    yield f"""frontend metrics
  bind {spec.metrics}
  http-request return {NOT_FOUND.rest()} unless {{ path /metrics }}
  http-request use-service prometheus-exporter"""


def _begin(protocol: str) -> str:
    """What is kept of a request for its line in the log, and its id: the client's if that is a sane one."""
    return f"""  log global
  log-format {shlex.quote(_log_format(protocol))}
  http-request set-var(txn.id) uuid()
  http-request set-var(txn.id) req.fhdr(x-request-id) if {{ req.fhdr(x-request-id) -m reg '^[A-Za-z0-9._-]{{1,64}}$' }}
  http-request set-var(txn.path) path,bytes(0,256)
  http-request set-var(txn.method) method,bytes(0,32)"""


def _forward() -> str:
    """What TorchServe gets to know beside the request itself."""
    return f"""{_lines(f"http-request del-header {name}" for name in INTERNAL_HEADERS)}
  http-request set-header X-Request-ID %[var(txn.id)]
  http-request set-header X-Request-Start t=%[date(0,ms)]
  http-request set-header X-Forwarded-For %[src]"""


def _end() -> str:
    return "  http-after-response set-header X-Request-ID %[var(txn.id)] if { var(txn.id) -m found }"


def _keys(spec: Spec, files: Files, protocol: str) -> str:
    if spec.keys is None:
        return "  http-request set-var(txn.key) str(-)"
    refuse, over = (
        (UNAUTHENTICATED.rest(), OVER_RATE.rest())
        if protocol == "rest"
        else (UNAUTHENTICATED.over_grpc(), OVER_RATE.over_grpc())
    )
    return f"""  http-request set-var(txn.given) http_auth_bearer
  http-request set-var(txn.given) req.fhdr(x-api-key) unless {{ var(txn.given) -m found }}
  http-request set-var(txn.entry) var(txn.given),sha2(256),hex,lower,map_str({shlex.quote(str(files.keys))})
  http-request unset-var(txn.given)
  http-request return {refuse} unless {{ var(txn.entry) -m found }}
  http-request set-var(txn.rate) var(txn.entry),field(1,:)
  http-request set-var(txn.key) var(txn.entry),field(2,:)
  http-request track-sc0 var(txn.key) table keys
  http-request return {over} if {{ sc0_gpc0_rate,sub(txn.rate) ge 0 }}
  http-request sc-inc-gpc0(0)"""


def _torchserve_errors() -> str:
    """TorchServe's own replies begin with a code and a type; the handlers' begin with an error and stay as they are."""
    own = (
        (BAD_FORM, 500, "ErrorDataDecoderException"),
        (NO_MODEL, 404, "Model(Version)?NotFoundException"),
        (DIED, 502, "InternalServerException"),
        (TIMEOUT, 504, "InternalServerException"),
        (UNAVAILABLE, 503, "InternalServerException"),
        (NO_WORKER, 503, "ServiceUnavailableException"),
        (INTERNAL, 500, "[A-Za-z]+"),
    )
    lines = ["http-response wait-for-body time 5s if { status ge 400 }"]
    for refusal, status, kind in own:
        pattern = shlex.quote(rf'^\{{\s*"code": {status},\s*"type": "{kind}')
        lines.append(f"http-response return {refusal.rest()} if {{ status {status} }} {{ res.body -m reg {pattern} }}")
    return _lines(lines)


def _backends(spec: Spec, server: Addresses) -> Iterator[str]:
    yield "backend keys\n  stick-table type string len 64 size 100k expire 1m store gpc0_rate(1s)"
    # /health is of all models. While one of them has no worker requests still pass: TorchServe has a queue for them.
    for name, expect in (("ready", "status 200"), ("open", 'rstring \'"status": "(ready|unavailable|unknown)"\'')):
        yield f"""backend {name}
  option httpchk
  http-check send meth GET uri /health ver HTTP/1.1 hdr Host localhost
  http-check expect {expect}
  server server {server.metrics} check inter 500ms fastinter 100ms fall 3 rise 1"""
    for suffix, model in (("", spec.model), *((f".{name}", limits) for name, limits in spec.models.items())):
        yield _backend("rest", suffix, model, server.rest)
        yield _backend("grpc", suffix, model, server.grpc)


def _backend(protocol: str, suffix: str, model: Model, address: Address) -> str:
    """One model's queue. A request that HAProxy itself ends with 503 while the server is up has waited too long."""
    name = f"{protocol}{suffix}"

    def either(late: object, down: object) -> str:
        return f"%[nbsrv({name}),bool,iif({late},{down})]"

    message = either(OVERLOADED.message, UNAVAILABLE.message)
    if protocol == "rest":
        full = OVERLOADED.rest()
        error = {"code": either(OVERLOADED.code, UNAVAILABLE.code), "message": message}
        body = shlex.quote(json.dumps({"error": error}, separators=(",", ":")))
        late = [
            f"http-error status 503 content-type application/json lf-string {body} hdr Retry-After {RETRY_AFTER}",
            "http-response set-var(txn.answered) bool(true)",
            "http-after-response set-status 429 "
            f"if {{ status 503 }} !{{ var(txn.answered) -m found }} {{ nbsrv({name}) gt 0 }}",
        ]
    else:
        full = OVERLOADED.over_grpc()
        status = either(OVERLOADED.grpc, UNAVAILABLE.grpc)
        late = [f"http-error status 503 hdr grpc-status {status} hdr grpc-message {shlex.quote(message)}"]
    return f"""backend {name}
  http-request return {full} if {{ queue({name}) ge {model.queue} }}
{_lines(late)}
  timeout queue {_ms(model.queue_seconds)}
  timeout server {_ms(model.reply_seconds)}
  server server {address} maxconn {model.in_flight} track open/server{" proto h2" if protocol == "grpc" else ""}"""


def _too_large(spec: Spec) -> Refusal:
    return Refusal(413, "too_large", 8, f"a request may have {spec.limits.body_bytes} bytes at most")


def _log_format(protocol: str) -> str:
    """One JSON object. What clients choose is escaped, and cut so that a line goes into a pipe in one piece."""
    text = {"id": "id", "method": "method", "path": "path", "model": "model", "key": "key", "grpc_status": "grpc"}
    fields = {"time_ms": "%[date(0,ms)]", "protocol": f'"{protocol}"', "client": '"%ci"'}
    fields |= {name: f'"%[var(txn.{var}),bytes(0,256),json(utf8s)]"' for name, var in text.items()}
    fields |= {"status": "%ST", "received": "%U", "sent": "%B"}
    fields |= {"request_ms": "%TR", "queue_ms": "%Tw", "connect_ms": "%Tc", "response_ms": "%Tr", "total_ms": "%Ta"}
    fields |= {"retries": "%rc", "end": '"%ts"'}
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
