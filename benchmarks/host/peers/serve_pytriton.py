"""PyTriton: the Triton server with its dynamic batcher; its Python backend calls us back.

The wheel holds the Triton binary and only the Python backend, not the ONNX Runtime one.
"""

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from settings import DELAY_S, MAX_BATCH, MODEL, PORT, SPEC, open_model

model = open_model()


@batch
def infer(**inputs):
    """Run a batch that Triton has joined."""
    return [model.run(None, {SPEC.input: inputs[SPEC.input]})[0]]


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1", http_port=PORT, allow_grpc=True, grpc_port=PORT + 1,
        metrics_port=PORT + 2, log_verbose=0,
    )  # fmt: skip
    batcher = DynamicBatcher(max_queue_delay_microseconds=int(DELAY_S * 1e6))
    with Triton(config=config) as triton:
        triton.bind(
            MODEL,
            infer,
            [Tensor(name=SPEC.input, dtype=SPEC.dtype, shape=SPEC.shape)],
            [Tensor(name="y", dtype=np.float32, shape=(SPEC.columns,))],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=batcher),
            strict=False,
        )
        triton.serve()
