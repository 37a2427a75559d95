"""LitServe: an API process and one inference process, which collects the batches."""

import os

import litserve
import numpy as np
from settings import DELAY_S, MAX_BATCH, PORT, SPEC, open_model


class Peer(litserve.LitAPI):
    """Decode, batch, run, split, encode: LitServe's five steps."""

    def setup(self, device):
        """Open the model in the inference process."""
        self.model = open_model()

    def decode_request(self, request):
        """Read one row."""
        return np.array(request["data"], SPEC.dtype).reshape(SPEC.shape)

    def batch(self, inputs):
        """Join rows."""
        return np.stack(inputs)

    def predict(self, x):
        """Run a batch."""
        return self.model.run(None, {SPEC.input: x})[0]

    def unbatch(self, output):
        """Split the answers."""
        return list(output)

    def encode_response(self, output):
        """Write one answer."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    api = Peer(max_batch_size=MAX_BATCH, batch_timeout=DELAY_S)
    fast_queue = os.environ.get("FAST_QUEUE", "0") == "1"  # zmq between the processes
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=fast_queue
    )
    server.run(
        host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False,
        log_level="warning", access_log=False,
    )  # fmt: skip
