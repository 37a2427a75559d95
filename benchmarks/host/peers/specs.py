"""The three models as every server and the bench see them.

Needs numpy and ONNX Runtime only: the peers' environments hold little else.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

VOCABULARY = 30_522


@dataclass(frozen=True)
class Spec:
    """One model: one input, one output `y` of 32-bit floats."""

    input: str
    """Name of the input."""
    shape: tuple[int, ...]
    """Shape of one row."""
    dtype: type
    """numpy's type of the input."""
    datatype: str
    """The Open Inference Protocol's name of that type."""
    columns: int
    """Width of the output."""
    bare_rows: int
    """Rows per run that the bare session does best with."""
    tolerance: float = 1e-3
    """How far a right answer may lie from the bare model's: numbers travel with five decimals."""


SPECS = {
    "mlp": Spec("x", (64,), np.float32, "FP32", 10, bare_rows=64),
    "cnn": Spec("x", (3, 32, 32), np.float32, "FP32", 10, bare_rows=16),
    "encoder": Spec("input_ids", (64,), np.int64, "INT64", 2, bare_rows=8),
}
SPECS["encoder-fp16"] = replace(SPECS["encoder"], tolerance=2e-2)  # CUDA's against the CPU's


def rows(model: str, count: int, seed: int = 7) -> np.ndarray:
    """Draw `count` rows of a model's input, the same ones for the same seed."""
    spec, random = SPECS[model], np.random.default_rng(seed)
    if spec.dtype is np.int64:
        return random.integers(0, VOCABULARY, (count, *spec.shape), np.int64)
    return random.standard_normal((count, *spec.shape)).astype(np.float32)


def open_session(path: Path, threads: int = 1, *, spin: bool = False) -> Any:
    """Open a model on the CPU with the threads that its server wants."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
