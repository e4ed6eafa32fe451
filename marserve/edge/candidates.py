"""Which requests go to a model's candidate, in HAProxy's words. Text alone.

A candidate is a version beside the default one, with a queue of its own. Its share of the requests that name no
version is an entry of a table that expires: who splits renews it, and when nobody does the default version has all.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from marserve.edge.spec import Sticky

LEASE = 5  # seconds
TABLE = "rollouts"  # a model -> the candidate's share of WHOLE
MAP = "rollouts.map"  # a model -> the candidate's version
WHOLE = 10_000
FILTER = Path(__file__).with_name("grpc_version.lua")
CANDIDATE = "txn.candidate"  # its version, where the request goes there; FILTER looks there too


def backend(protocol: str, model: str) -> str:
    """No model's name has a colon."""
    return f"{protocol}.{model}:candidate"


def load() -> str:
    """For the global section."""
    return f"lua-load {shlex.quote(str(FILTER))}"


def table() -> str:
    return f"backend {TABLE}\n  stick-table type string len 128 size 100k expire {LEASE}s store gpt0"


def choose(sticky: Sticky) -> Iterator[str]:
    """In a frontend that knows the model and the version that was named, if any; looking a share up renews nothing.

    A request's place is below WHOLE and the same for all of a session's: one that is below a share is below all larger
    ones too. Sessions that have a place for one model have another one for the next.
    """
    session = "{ var(txn.session),length gt 0 }"
    yield f"http-request set-var(txn.share) var(txn.model),table_gpt0({TABLE}) unless {{ var(txn.version) -m found }}"
    yield "acl split var(txn.share) -m int gt 0"
    yield "http-request set-var(txn.split) str(default) if split"
    yield f"http-request set-var(txn.session) req.fhdr({sticky.header}) if split"
    yield f"http-request set-var(txn.session) req.cook({sticky.cookie}) if split !{session}"
    yield f"http-request set-var(txn.session) uuid() if split !{session}"
    yield f"http-request set-var(txn.place) var(txn.model),concat(/,txn.session),xxh32,mod({WHOLE}) if split"
    below = "{ var(txn.place),sub(txn.share) lt 0 }"
    yield f"http-request set-var({CANDIDATE}) var(txn.model),map_str({MAP}) if split {below}"


def use(protocol: str) -> str:
    """A backend that is not there is passed over."""
    return f"use_backend {backend(protocol, '%[var(txn.model)]')} if {{ var({CANDIDATE}) -m found }}"


def name_version(protocol: str) -> Iterator[str]:
    """At the head of a candidate's backend: the request names the version from here on."""
    yield f"http-request set-var(txn.version) var({CANDIDATE})"
    yield "http-request set-var(txn.split) str(candidate)"
    if protocol == "rest":
        yield f"http-request set-path %[path]/%[var({CANDIDATE})]"
    else:
        yield "filter lua.grpc-version"
        yield "http-request del-header content-length"
