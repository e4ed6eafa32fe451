"""Locust users: each waits for its reply, checks it, and sends the next request at once (a closed loop)."""

from __future__ import annotations

import random
import time
from typing import Any, ClassVar
from urllib.parse import quote

import grpc
from grpc.experimental import gevent as grpc_gevent  # type: ignore[attr-defined]
from locust import FastHttpUser, User, constant
from locust.exception import CatchResponseError

from handlers.accept import JSON
from loadtest.checkers import check_reply
from loadtest.plan import TIMEOUT, Plan, Target
from marserve.client import content_type
from marserve.protos import inference_pb2, inference_pb2_grpc

_GRPC_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection per user, as over REST; gRPC shares one otherwise
]


def user_class(plan: Plan) -> type:
    """The class that locustfile.py hands to Locust."""
    if plan.grpc:
        grpc_gevent.init_gevent()
    return type("LoadUser", (GrpcUser if plan.grpc else RestUser,), {"plan": plan, "host": plan.grpc or plan.host})


def _predict_over_rest(user: RestUser) -> None:
    target, body = _choose(user.plan)
    path = f"/predictions/{quote(target.model, safe='')}"
    request = user.client.post(
        path,
        data=body,
        headers={"content-type": content_type(body)},
        name=target.model,
        catch_response=True,
        allow_redirects=False,
    )
    with request as reply:
        if not reply.status_code:  # a connection that failed: Locust counts it, with the reason
            return
        media_type = reply.headers.get("content-type", JSON)
        if reason := check_reply(target.kind, body, reply.content or b"", reply.status_code, media_type):
            reply.failure(reason)
        else:
            reply.success()


def _predict_over_grpc(user: GrpcUser) -> None:
    target, body = _choose(user.plan)
    request = inference_pb2.PredictionsRequest(model_name=target.model, input={"data": body})
    content, reason = b"", ""
    started_at, started = time.time(), time.perf_counter()
    try:
        content = user.stub.Predictions(request, timeout=TIMEOUT).prediction
    except grpc.RpcError as error:
        reason = f"{error.code().name}: {(error.details() or '').partition(chr(10))[0]}"
    milliseconds = (time.perf_counter() - started) * 1000
    # TorchServe drops an item's own status on gRPC: an error arrives as OK, with the error in its body.
    reason = reason or check_reply(target.kind, body, content, 200)
    user.environment.events.request.fire(
        request_type="gRPC",
        name=target.model,
        start_time=started_at,
        response_time=milliseconds,
        response_length=len(content),
        exception=CatchResponseError(reason) if reason else None,
        context={},
    )


def _choose(plan: Plan) -> tuple[Target, bytes]:
    target = random.choice(plan.targets)  # noqa: S311 - no secret
    return target, random.choice(target.bodies)  # noqa: S311


class RestUser(FastHttpUser):  # type: ignore[misc]
    abstract = True
    plan: ClassVar[Plan]
    wait_time = constant(0)
    tasks: ClassVar[list[Any]] = [_predict_over_rest]
    network_timeout = TIMEOUT
    connection_timeout = TIMEOUT
    insecure = False


class GrpcUser(User):  # type: ignore[misc]
    abstract = True
    plan: ClassVar[Plan]
    wait_time = constant(0)
    tasks: ClassVar[list[Any]] = [_predict_over_grpc]

    def on_start(self) -> None:
        self._channel = grpc.insecure_channel(self.plan.grpc, _GRPC_OPTIONS)
        self.stub = inference_pb2_grpc.InferenceAPIsServiceStub(self._channel)

    def on_stop(self) -> None:
        self._channel.close()
