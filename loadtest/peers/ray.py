"""Ray Serve: an application for each model, with request batching and a replica per core; tuned for throughput.

`loadtest.bench` sets RAY_SERVE_THROUGHPUT_OPTIMIZED=1, as Ray's page on performance says.
"""

from __future__ import annotations

import os
import signal

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from loadtest.peers.common import HOST, NAMES, PORT, WORKERS, Model, batching


def application(name: str) -> serve.Application:
    size, wait = batching(name)

    # More replicas than cores in all: each asks for a share of one.
    @serve.deployment(
        name=name, num_replicas=WORKERS, max_ongoing_requests=4 * size, ray_actor_options={"num_cpus": 0.1}
    )
    class Predict:
        def __init__(self) -> None:
            self.model = Model(name)

        @serve.batch(max_batch_size=size, batch_wait_timeout_s=wait / 1000)
        async def predict(self, bodies: list[bytes]) -> list[bytes]:
            return self.model(bodies)

        async def __call__(self, request: Request) -> Response:
            return Response(await self.predict(await request.body()), media_type="application/json")

    return Predict.bind()


if __name__ == "__main__":
    ray.init(include_dashboard=False, _temp_dir=os.environ["TMPDIR"], configure_logging=False)
    logging = {"enable_access_log": False, "log_level": "WARNING"}
    serve.start(http_options={"host": HOST, "port": PORT}, logging_config=logging)
    for name in NAMES:
        serve.run(application(name), name=name, route_prefix=f"/predictions/{name}", logging_config=logging)
    signal.sigwait([signal.SIGINT, signal.SIGTERM])
