"""Ray Serve: an HTTP proxy process and one replica process with @serve.batch."""

import os
import signal

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_worker_niceness": "0",  # 15 by default: it would lose against the load generator
}
for key, value in SETTINGS.items():
    os.environ.setdefault(key, value)  # Ray reads them while it is imported

import numpy as np  # noqa: E402
import ray  # noqa: E402
from ray import serve  # noqa: E402
from settings import DELAY_S, MAX_BATCH, PORT, SPEC, open_model  # noqa: E402
from starlette.requests import Request  # noqa: E402

PASSED_ON = ("ORT_", "MODEL", "PORT", "MAX_", "DELAY", "RAY_SERVE", "PYTHONPATH")
"""Beginnings of the variables that the replica's process needs too."""


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Peer:
    """The model as a deployment."""

    def __init__(self):
        self.model = open_model()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=DELAY_S)
    async def batched(self, rows):
        """Run a batch."""
        return list(self.model.run(None, {SPEC.input: np.stack(rows)})[0])

    async def __call__(self, request: Request):
        """Answer one request."""
        row = np.array((await request.json())["data"], SPEC.dtype).reshape(SPEC.shape)
        return {"y": (await self.batched(row)).tolist()}


if __name__ == "__main__":
    environment = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": environment},
    )  # fmt: skip
    quiet = {"enable_access_log": False}
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config=quiet)
    serve.run(Peer.bind(), route_prefix="/predict", logging_config=quiet)
    signal.pause()
