"""MLServer: a runtime of one's own with NumpyCodec, adaptive batching, V2 JSON.

Version 1.7.1 has no binary tensors over HTTP, only over gRPC.
"""

import asyncio

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from settings import DELAY_S, MAX_BATCH, MODEL, PORT, SPEC, WORKERS, open_model


class Peer(MLModel):
    """The model behind MLServer's data plane."""

    async def load(self):
        """Open the model."""
        self.session = open_model()
        return True

    async def predict(self, payload):
        """Run a batch that MLServer has joined."""
        x = NumpyCodec.decode_input(payload.inputs[0])
        y = self.session.run(None, {SPEC.input: x})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])


async def main():
    """Serve until stopped; no worker process of its own, or the one that WORKERS=2 asks for."""
    settings = Settings(
        host="127.0.0.1", http_port=PORT, grpc_port=PORT + 1, metrics_endpoint=None,
        parallel_workers=WORKERS - 1, debug=False,
    )  # fmt: skip
    model = ModelSettings(
        name=MODEL, implementation="serve_mlserver.Peer",
        max_batch_size=MAX_BATCH, max_batch_time=DELAY_S,
    )  # fmt: skip
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
