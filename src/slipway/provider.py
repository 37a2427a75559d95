"""ONNX Runtime's execution providers that models are proven and run on, named once."""

from typing import Final, Literal

Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider"]
"""Where a pipeline's model may be required to run."""

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"
