"""A spec -> HAProxy's configuration. Text alone: knows no processes and reads no files.

REST and gRPC pass the same gates in the same order: path, method, headers, key and its rate, size; then the whole body
is waited for, and the request gets into its model's queue, or into that of the model's candidate (candidates.py).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from marserve.edge import candidates, refusals
from marserve.edge.refusals import Refusal
from marserve.edge.spec import MODEL_NAME, Model, Spec
from marserve.settings import Addresses

KEYS = "keys.map"  # a key's SHA-256 -> `<rate>:<name>`
USER = "haproxy"  # what Debian's package has for it
VERSION = MODEL_NAME  # archive.py takes the same for both
SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService"
METHODS = ("Ping", "Predictions", "StreamPredictions")  # StreamPredictions2 has no end that could be waited for
BUFFER_ROOM = 65536  # bytes of a buffer that are not the body's
HEADERS = 64  # lines of a request
# Headers that mean something to marserve, to TorchServe or to the edge alone.
INTERNAL_HEADERS = ("marserve-warm-up", "explain", "expect", "authorization", "x-api-key")
ERRORS = {
    400: refusals.BAD_REQUEST,
    408: refusals.SLOW,
    500: refusals.INTERNAL,
    502: refusals.NO_REPLY,
    503: refusals.UNAVAILABLE,
    504: refusals.TIMEOUT,
}
# TorchServe's own replies begin with a code and a type; the handlers' begin with an error, and stay as they are.
TORCHSERVE_ERRORS = (
    (404, "Model(Version)?NotFoundException", refusals.NO_MODEL),
    (502, "InternalServerException", refusals.DIED),
    (504, "InternalServerException", refusals.TIMEOUT),
    (503, "InternalServerException", refusals.UNAVAILABLE),  # it is about to end
    (503, "ServiceUnavailableException", refusals.NO_WORKER),
    (500, "[A-Za-z]+", refusals.INTERNAL),
)
# What its reader of forms throws is told by its name as it is: ArrayIndexOutOfBoundsException, say.
FORM_ERROR = "(?!InternalServerException)[A-Za-z]+"
# The words that marserve's own /health has for a server that takes requests, though not for all of its models perhaps.
OPEN = '"status": "(ready|degraded|unavailable|unknown)"'

Say = Callable[[Refusal], str]


def configuration(spec: Spec, server: Addresses, jail: Path | None = None) -> str:
    """The whole text. `server` is where TorchServe listens; its health is asked for beside its metrics.

    KEYS lies beside the file that this becomes. `jail` is an empty folder that a HAProxy which root starts locks itself
    into, as another user.
    """
    parts = [_global(spec, jail), _rest(spec), _grpc(spec), _metrics(spec), *_backends(spec, server)]
    return "\n\n".join(parts) + "\n"


def _global(spec: Spec, jail: Path | None) -> str:
    limits = spec.limits
    locked = f"\n  chroot {shlex.quote(str(jail))}\n  user {USER}\n  group {USER}" if jail else ""
    return f"""global
  default-path config
  log stdout len 8192 format raw local0
  maxconn {limits.connections}
  nbthread 1
  {candidates.load()}
  hard-stop-after {_ms(limits.drain_seconds)}
  # A buffer holds a whole request. Memory is taken as it is filled.
  tune.bufsize {limits.body_bytes + BUFFER_ROOM}
  tune.h2.max-frame-size 16384
  tune.h2.initial-window-size 1048576
  tune.http.maxhdr 1024
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
  ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20{locked}

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


def _rest(spec: Spec) -> str:
    tls = f" ssl crt {shlex.quote(str(spec.certificate))} alpn h2,http/1.1" if spec.certificate else ""
    say = Refusal.rest
    return f"""frontend rest
  bind {spec.rest}{tls}
{_clients(spec)}{_lines(f"http-error {say(refusal)}" for refusal in ERRORS.values())}
{_begin("rest")}
  http-request set-var(txn.model) path,field(3,/)
  acl health path /health
  acl closed nbsrv(ready) eq 0
  acl closed nbsrv(open) eq 0
  acl known path -m reg '^/(predictions|explanations)/{MODEL_NAME}(/{VERSION})?$'
  http-request return {say(refusals.GET_ONLY)} if health !METH_GET
  http-request return {say(refusals.UNAVAILABLE)} if health {{ stopping }} || health closed
  http-request return status 200 content-type application/json string '{{"status":"ready"}}' if health
  http-request return {say(refusals.NOT_FOUND)} unless known
  http-request return {say(refusals.POST_ONLY)} unless {{ method POST PUT }}
{_gates(spec, say)}
  http-request return {say(refusals.BAD_FORM)} if {{ req.hdr(content-type) -m reg -i '^multipart/.*boundary=[ ;]*$' }}
  http-request set-var(txn.form) bool(true) if {{ req.hdr(content-type) -m reg -i '^(multipart/|[^;]*urlencoded)' }}
  http-request set-uri %[path]
  http-request set-var(txn.version) path,field(4,/) if {{ path,field(4,/),length gt 0 }}
{_lines(candidates.choose(spec.sticky))}
{_forward()}
  http-response wait-for-body time 5s if {{ status ge 400 }}
  {_instead(500, FORM_ERROR, refusals.BAD_FORM)} {{ var(txn.form) -m found }}
{_lines(_instead(*entry) for entry in TORCHSERVE_ERRORS)}
  http-after-response set-header X-Request-ID %[var(txn.id)]
  {candidates.use("rest")}
  use_backend rest.%[var(txn.model)]
  default_backend rest"""


def _grpc(spec: Spec) -> str:
    """Statuses that are not gRPC's come from HAProxy itself, with those that are beside them."""
    tls = f"ssl crt {shlex.quote(str(spec.certificate))} alpn h2" if spec.certificate else "proto h2"
    say = Refusal.over_grpc
    return f"""frontend grpc
  bind {spec.grpc} {tls}
{_clients(spec)}{_lines(f"http-error {say(refusal, status)}" for status, refusal in ERRORS.items())}
{_begin("grpc")}
  acl known path {" ".join(f"{SERVICE}/{method}" for method in METHODS)}
  http-request return {say(refusals.NOT_FOUND)} if !known || !METH_POST
{_gates(spec, say)}
  http-request set-var(txn.model) req.body,ungrpc(1)
  http-request set-var(txn.version) req.body,ungrpc(2)
{_lines(candidates.choose(spec.sticky))}
{_forward()}
  # TorchServe says INTERNAL where it has no such model, and UNKNOWN where workers died.
  http-response set-var(txn.message) res.hdr(grpc-message)
  http-response set-header grpc-status {refusals.NO_MODEL.grpc} if {{ var(txn.message) -m beg 'Model ' }}
  http-response set-header grpc-status {refusals.DIED.grpc} if {{ var(txn.message) -m beg 'Worker died' }}
  http-after-response set-status 200
  http-after-response set-header content-type application/grpc
  http-after-response set-var(txn.grpc) res.hdr(grpc-status)
  http-after-response set-header X-Request-ID %[var(txn.id)]
  {candidates.use("grpc")}
  use_backend grpc.%[var(txn.model)]
  default_backend grpc"""


def _metrics(spec: Spec) -> str:
    return f"""frontend metrics
  bind {spec.metrics}
  http-request return {refusals.NOT_FOUND.rest()} unless {{ path /metrics }}
  http-request use-service prometheus-exporter"""


def _clients(spec: Spec) -> str:
    """Nothing where one client may have all connections that there are."""
    most = spec.limits.connections_per_client
    if most >= spec.limits.connections:
        return ""
    lines = ("track-sc1 src table clients", f"reject if {{ sc1_conn_cur gt {most} }}")
    return _lines(f"tcp-request connection {line}" for line in lines) + "\n"


def _begin(protocol: str) -> str:
    """What is kept of a request for its line in the log, and its id: the client's if that is a sane one."""
    return f"""  log global
  log-format {shlex.quote(_log_format(protocol))}
  http-request set-var(txn.id) uuid()
  http-request set-var(txn.id) req.fhdr(x-request-id) if {{ req.fhdr(x-request-id) -m reg '^[A-Za-z0-9._-]{{1,64}}$' }}
  http-request set-var(txn.path) path,bytes(0,256)
  http-request set-var(txn.method) method,bytes(0,32)"""


def _gates(spec: Spec, say: Say) -> str:
    most = spec.limits.body_bytes
    large, headers = say(refusals.too_large(most)), say(refusals.HEADERS_TOO_LARGE)
    lines = [
        f"http-request return {headers} if {{ req.hdrs,length gt {spec.limits.header_bytes} }}",
        f"http-request return {headers} if {{ req.hdr_cnt gt {HEADERS} }}",
        *(_key(say) if spec.keys else ()),
        f"http-request return {large} if {{ req.body_size gt {most} }}",  # what it says of itself
        f"http-request wait-for-body time {_ms(spec.limits.body_seconds)}",
        f"http-request return {large} if {{ req.body_len gt {most} }}",
    ]
    return _lines(lines)


def _key(say: Say) -> tuple[str, ...]:
    """Only its hash is looked up and only its name is kept."""
    return (
        "http-request set-var(txn.given) http_auth_bearer",
        "http-request set-var(txn.given) req.fhdr(x-api-key) unless { var(txn.given) -m found }",
        f"http-request set-var(txn.entry) var(txn.given),sha2(256),hex,lower,map_str({KEYS})",
        "http-request unset-var(txn.given)",
        f"http-request return {say(refusals.UNAUTHENTICATED)} unless {{ var(txn.entry) -m found }}",
        "http-request set-var(txn.rate) var(txn.entry),field(1,:)",
        "http-request set-var(txn.key) var(txn.entry),field(2,:)",
        "http-request track-sc0 var(txn.key) table keys",
        f"http-request return {say(refusals.OVER_RATE)} if {{ sc0_gpc0_rate,sub(txn.rate) ge 0 }}",
        "http-request sc-inc-gpc0(0)",
    )


def _forward() -> str:
    """What TorchServe gets to know beside the request itself."""
    lines = [
        *(f"http-request del-header {name}" for name in INTERNAL_HEADERS),
        "http-request set-header X-Request-ID %[var(txn.id)]",
        "http-request set-header X-Request-Start t=%[date(0,ms)]",
        "http-request set-header X-Forwarded-For %[src]",
    ]
    return _lines(lines)


def _instead(status: int, kind: str, refusal: Refusal) -> str:
    pattern = shlex.quote(rf'^\{{\s*"code": {status},\s*"type": "{kind}')
    return f"http-response return {refusal.rest()} if {{ status {status} }} {{ res.body -m reg {pattern} }}"


def _backends(spec: Spec, server: Addresses) -> Iterator[str]:
    yield "backend clients\n  stick-table type ipv6 size 100k expire 1m store conn_cur"
    yield "backend keys\n  stick-table type string len 64 size 100k expire 1m store gpc0_rate(1s)"
    # /health is of all models. While one of them has no worker requests still pass: TorchServe has a queue for them.
    for name, expect in (("ready", "status 200"), ("open", f"rstring {shlex.quote(OPEN)}")):
        yield f"""backend {name}
  option httpchk
  http-check send meth GET uri /health ver HTTP/1.1 hdr Host localhost
  http-check expect {expect}
  server server {server.metrics} check inter 500ms fastinter 100ms downinter 200ms fall 3 rise 1"""
    yield candidates.table()
    for suffix, model in (("", spec.model), *((f".{name}", limits) for name, limits in spec.models.items())):
        yield _rest_backend(f"rest{suffix}", model, server)
        yield _grpc_backend(f"grpc{suffix}", model, server)
    for name, model in spec.models.items():
        yield _rest_backend(candidates.backend("rest", name), model, server, candidates.name_version("rest"))
        yield _grpc_backend(candidates.backend("grpc", name), model, server, candidates.name_version("grpc"))


def _rest_backend(name: str, model: Model, server: Addresses, first: Iterable[str] = ()) -> str:
    return _backend(name, model, f"{server.rest}", Refusal.rest, (*first, *_late_rest(name)))


def _grpc_backend(name: str, model: Model, server: Addresses, first: Iterable[str] = ()) -> str:
    return _backend(name, model, f"{server.grpc} proto h2", Refusal.over_grpc, (*first, *_late_grpc(name)))


def _backend(name: str, model: Model, address: str, say: Say, lines: Iterable[str]) -> str:
    """One queue."""
    return f"""backend {name}
{_lines(lines)}
  http-request return {say(refusals.OVERLOADED)} if {{ queue({name}) ge {model.queue} }}
  timeout queue {_ms(model.queue_seconds)}
  timeout server {_ms(model.reply_seconds)}
  server server {address} maxconn {model.in_flight} track open/server"""


def _late_rest(name: str) -> list[str]:
    """HAProxy's own 503 while there is a server is that of a request that has waited too long: it is told so."""
    error = {"code": _either(name, "code"), "message": _either(name, "message")}
    body = shlex.quote(json.dumps({"error": error}, separators=(",", ":")))
    again = f"hdr Retry-After {refusals.RETRY_AFTER}"
    own = f"{{ status 503 }} !{{ var(txn.answered) -m found }} {{ nbsrv({name}) gt 0 }}"
    return [
        f"http-error status 503 content-type application/json lf-string {body} {again}",
        "http-response set-var(txn.answered) bool(true)",
        f"http-after-response set-status {refusals.OVERLOADED.status} if {own}",
    ]


def _late_grpc(name: str) -> list[str]:
    message = shlex.quote(_either(name, "message"))
    return [f"http-error status 503 hdr grpc-status {_either(name, 'grpc')} hdr grpc-message {message}"]


def _either(name: str, attribute: str) -> str:
    """That of OVERLOADED where the backend has a server, that of UNAVAILABLE where it has none."""
    late, down = (getattr(refusal, attribute) for refusal in (refusals.OVERLOADED, refusals.UNAVAILABLE))
    return f"%[nbsrv({name}),bool,iif({late},{down})]"


def _log_format(protocol: str) -> str:
    """One JSON object. What clients choose is escaped, and cut so that a line goes into a pipe in one piece."""
    text = {"id": "id", "method": "method", "path": "path", "model": "model", "version": "version", "split": "split"}
    text |= {"key": "key", "grpc_status": "grpc"}
    fields = {"time_ms": "%[date(0,ms)]", "protocol": f'"{protocol}"', "client": '"%ci"'}
    fields |= {name: f'"%[var(txn.{var}),bytes(0,256),json(utf8s)]"' for name, var in text.items()}
    fields |= {"status": "%ST", "received": "%U", "sent": "%B"}
    fields |= {"request_ms": "%TR", "queue_ms": "%Tw", "connect_ms": "%Tc", "response_ms": "%Tr", "total_ms": "%Ta"}
    fields |= {"end": '"%ts"'}
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
