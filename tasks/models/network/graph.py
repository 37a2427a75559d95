"""The network as an ONNX graph, from codes and numbers to scores."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch

from tasks import graph


def export_core(
    core: torch.nn.Module, categories: int, numbers: int, *, opset: int
) -> onnx.ModelProto:
    """Export what gives scores, for any number of rows, without paths and traces."""
    # two rows: torch.export takes an example of one row for a constant
    example = (
        torch.zeros(2, categories, dtype=torch.int64),
        torch.zeros(2, numbers, dtype=torch.float32),
    )
    rows = {0: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        # torch 2.13 copies its own deprecated tree specs while exporting
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        program = torch.onnx.export(
            core.eval(),
            example,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=(rows, rows),
            input_names=[graph.CATEGORIES, graph.NUMBERS],
            output_names=[graph.SCORES],
            verbose=False,
        )
    assert program is not None
    return graph.reduce(program.model_proto)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a logger's warnings: torch reports every optional package that is not there."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
