"""KServe's Python ModelServer: V2 JSON and binary.

It has no batcher (KServe's is a Go sidecar in the pod), so every request is one run.
"""

from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid
from settings import MODEL, PORT, SPEC, open_model


class Peer(Model):
    """The model behind KServe's protocol."""

    def __init__(self):
        super().__init__(MODEL)
        self.session, self.ready = open_model(), True

    def predict(self, payload, headers=None, response_headers=None):
        """Run one request."""
        y = self.session.run(None, {SPEC.input: payload.inputs[0].as_numpy()})[0]
        output = InferOutput("y", list(y.shape), "FP32")
        binary = bool(payload.parameters and payload.parameters.get("binary_data_output"))
        output.set_data_from_numpy(y, binary_data=binary)
        return InferResponse(payload.id or generate_uuid(), MODEL, [output])


if __name__ == "__main__":
    server = ModelServer(
        http_port=PORT, enable_grpc=False, workers=1, enable_docs_url=False,
        enable_latency_logging=False,
    )  # fmt: skip
    server.start([Peer()])
