"""BentoML: one service worker; adaptive batching in its event loop.

max_latency_ms is left large: it is a bound past which BentoML answers 503, not a delay; the
dispatcher chooses the wait by itself.
"""

import os
import sys

import bentoml
import numpy as np
from settings import MAX_BATCH, MODEL, PORT, SPEC, open_model


@bentoml.service(
    name=f"peer_{MODEL}",
    workers=1,
    traffic={"timeout": 60},
    http={"cors": {"enabled": False}},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Peer:
    """The model as a service."""

    def __init__(self):
        self.model = open_model()

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=MAX_BATCH, max_latency_ms=10000)
    def predict(self, data: np.ndarray) -> np.ndarray:
        """Run a batch."""
        return self.model.run(None, {SPEC.input: data.astype(SPEC.dtype, copy=False)})[0]


if __name__ == "__main__":
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    serve = ["-m", "bentoml", "serve", "serve_bentoml:Peer", "--quiet"]
    os.execv(sys.executable, [sys.executable, *serve, "--host", "127.0.0.1", "--port", str(PORT)])
