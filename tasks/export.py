"""Turn the trained network into one ONNX graph that takes raw columns, and compare the two.

An export can succeed and be worthless, so the graph answers real rows beside torch at several
batch sizes before anything is built on it. Writes `model.onnx`, `core.onnx` (the same without
the columns in front, which is what gets quantized), `columns.json` and `export.json`.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pyarrow as pa
import torch

from slipway.bundle.format import canonical_json
from slipway.bundle.session import open_session
from slipway.errors import GateError
from slipway.provider import CPU
from tasks import columns, graph
from tasks.columns import Arrays, Columns
from tasks.network import load_network
from tasks.shards import read_features

if TYPE_CHECKING:
    from slipway.config import ExportConfig

FACTS = "export.json"

PARITY_ROWS = 1024
"""Golden rows to compare on; a row that differs differs among these, or prove finds it."""


class Core(torch.nn.Module):
    """The network with the sigmoid inside: hosts answer with probabilities."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, categories: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Map codes int64 [N, C] and numbers float32 [N, F] to probabilities [N]."""
        logits: torch.Tensor = self.network(categories, numbers)
        return torch.sigmoid(logits)


def run(config: "ExportConfig", *, weights: Path, prepared: Path, golden: Path, fp32: Path) -> None:
    """Export, compare with torch, write."""
    raw = columns.from_features(read_features(prepared))
    network = load_network(weights)
    core = export_core(network, raw, config.opset)
    model = graph.to_bytes(graph.attach_columns(core, raw.inputs))
    rows, _ = columns.read_golden_rows(golden, raw)
    session = open_session(model, CPU, 1)
    parity = compare(
        lambda arrays: session.run(arrays)[graph.PROBABILITY],
        Core(network).eval(),
        raw,
        rows.slice(0, PARITY_ROWS),
        config.parity_batches,
    )
    check_parity(parity, config.parity_max)
    (fp32 / graph.MODEL).write_bytes(model)
    (fp32 / graph.CORE).write_bytes(graph.to_bytes(core))
    columns.write_columns(fp32, raw)
    facts = {
        "parity": {str(batch): largest for batch, largest in parity.items()},
        "limit": config.parity_max,
        "opset": config.opset,
        "size_bytes": len(model),
    }
    (fp32 / FACTS).write_bytes(canonical_json(facts))


def export_core(network: torch.nn.Module, raw: Columns, opset: int) -> onnx.ModelProto:
    """Export a network for any number of rows, without names, paths and traces."""
    kinds = [column.kind for column in raw.inputs]
    # two rows: torch.export takes an example of one row for a constant
    example = (
        torch.zeros(2, kinds.count("category"), dtype=torch.int64),
        torch.zeros(2, kinds.count("number"), dtype=torch.float32),
    )
    rows = {0: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        # torch 2.13 copies its own deprecated tree specs while exporting
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        program = torch.onnx.export(
            Core(network).eval(),
            example,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=(rows, rows),
            input_names=[graph.CATEGORIES, graph.NUMBERS],
            output_names=[graph.PROBABILITY],
            verbose=False,
        )
    assert program is not None
    return graph.reduce(program.model_proto)


def compare(
    run: Callable[[Arrays], np.ndarray],
    core: torch.nn.Module,
    raw: Columns,
    rows: pa.Table,
    batches: Sequence[int],
) -> dict[int, float]:
    """Measure the largest difference of a probability from torch, per batch size.

    A row in which everything is missing goes along: no golden row need be like that, but a
    request may.
    """
    arrays = columns.as_arrays(pa.concat_tables([raw.blank(), rows]))
    largest = {}
    for batch in batches:
        differences = [0.0]
        for start in range(0, columns.count_rows(arrays), batch):
            part = columns.take(arrays, slice(start, start + batch))
            with torch.inference_mode():
                expected = core(*(torch.from_numpy(codes) for codes in raw.codes(part))).numpy()
            differences.append(float(np.max(np.abs(run(part) - expected))))
        # np.max keeps a NaN, the built-in max may drop it
        largest[batch] = float(np.max(differences))
    return largest


def check_parity(parity: dict[int, float], limit: float) -> None:
    """Stop the line unless every batch size stays within the limit."""
    if all(largest <= limit for largest in parity.values()):
        return
    table = "\n".join(f"  {batch:>5}  {largest:.2e}" for batch, largest in parity.items())
    raise GateError(
        f"the exported graph does not answer like torch (limit {limit:.0e}):\n"
        f"  batch  largest difference\n{table}\n"
        "The export succeeded but is not usable; look at what the network does per row"
    )


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
