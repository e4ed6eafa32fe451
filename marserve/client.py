"""Ask a running server for predictions, over REST or gRPC: the same answers either way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, Self
from urllib.parse import quote

import grpc
import httpx

from handlers.accept import JSON
from handlers.payload import looks_like_json
from marserve.errors import MarserveError

TIMEOUT = 60.0  # seconds
_MAX_MESSAGE = 16 * 2**20


ANY = "*/*"  # of an Accept header


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is what the model replied; `error` says why there is no prediction, or is empty.

    Of a reply that is an image `content` has the file, and `body` is empty.
    """

    body: Mapping[str, Any]
    error: str = ""
    content: bytes = b""
    media_type: str = JSON


class Client(Protocol):
    def predict(self, name: str, data: bytes, accept: str = ANY) -> Answer:
        """One request. `accept` says what the reply may be; over gRPC it is JSON. Raises MarserveError where no server
        answers."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class RestClient:
    """`key` is one of an edge's (`marserve keys`), or empty."""

    def __init__(self, url: str, key: str = "") -> None:
        try:
            parts = httpx.URL(url)
            if parts.scheme not in ("http", "https") or not parts.host:
                raise ValueError("expected http://host:port")
            # A proxy that the environment names cannot reach this machine's own loopback.
            loopback = is_loopback(parts.host)
            self._http = httpx.Client(base_url=parts, timeout=TIMEOUT, trust_env=not loopback, headers=_with_key(key))
        except (httpx.InvalidURL, ValueError) as error:
            raise MarserveError(f"{url!r} is not a server's address: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def predict(self, name: str, data: bytes, accept: str = ANY) -> Answer:
        try:
            headers = {"content-type": content_type(data), "accept": accept}
            reply = self._http.post(f"/predictions/{quote(name, safe='')}", content=data, headers=headers)
        except (httpx.RequestError, UnicodeError) as error:
            raise MarserveError(
                f"no answer from {self._http.base_url}: {error}; is `marserve serve` running?"
            ) from None
        return read_reply(reply.content, reply.status_code, reply.headers.get("content-type", JSON))


class GrpcClient:
    """`key` as for REST."""

    def __init__(self, address: str, key: str = "") -> None:
        from marserve.protos import inference_pb2, inference_pb2_grpc

        self._address = address
        self._metadata = tuple(_with_key(key).items())
        self._request = inference_pb2.PredictionsRequest
        options: list[tuple[str, int]] = [("grpc.enable_http_proxy", not is_loopback(address.rpartition(":")[0]))]
        options += [("grpc.max_send_message_length", _MAX_MESSAGE), ("grpc.max_receive_message_length", _MAX_MESSAGE)]
        self._channel = grpc.insecure_channel(address, options)
        self._stub = inference_pb2_grpc.InferenceAPIsServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def predict(self, name: str, data: bytes, accept: str = ANY) -> Answer:  # noqa: ARG002
        try:
            request = self._request(model_name=name, input={"data": data})
            reply = self._stub.Predictions(request, timeout=TIMEOUT, metadata=self._metadata)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise MarserveError(
                    f"no answer from {self._address}: {error.details()}; is `marserve serve` running?"
                ) from None
            return Answer({}, f"{error.code().name}: {_detail(error.details() or '')}")
        # TorchServe drops an item's own status on gRPC: an error arrives as OK, with the error in its body.
        return read_reply(reply.prediction, 200)


def content_type(data: bytes) -> str:
    """The header that goes with a body: what the handlers will take for JSON is sent as JSON."""
    return "application/json" if looks_like_json(data) else "application/octet-stream"


def read_reply(content: bytes, status: int, media_type: str = JSON) -> Answer:
    """A reply's body, HTTP status and content type -> answer, whichever of the first two says that it failed."""
    if status == HTTPStatus.OK and media_type.startswith("image/"):
        return Answer({}, content=content, media_type=media_type)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and not isinstance(body, dict):
        return Answer({}, "413: the request is larger than the server accepts (max_request_size)")
    if not isinstance(body, dict):
        return Answer({}, f"the server replied {status} with a body that is no JSON object")
    if isinstance(error := body.get("error"), dict):
        return Answer(body, f"{error.get('code', 'error')}: {error.get('message', '')}")
    if status != 200:  # TorchServe's own errors: {"code": 404, "type": "...", "message": "..."}
        return Answer(body, f"{status}: {body.get('message', body)}")
    return Answer(body)


def _with_key(key: str) -> dict[str, str]:
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise MarserveError("the key holds characters that none of `marserve keys` has: paste it again")
    return {"authorization": f"Bearer {key}"}


def _detail(text: str) -> str:
    """TorchServe packs a JSON error into the status' details; its message says it in words."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return text


def is_loopback(host: str) -> bool:
    return host.strip("[]") in ("localhost", "::1") or host.startswith("127.")
