"""Turn the trained network into one ONNX graph that takes raw columns, and compare the two.

An export can succeed and be worthless, so the graph answers real rows beside torch at several
batch sizes before anything is built on it. Writes `model.onnx`, `core.onnx` (the same without
the columns in front, which is what gets quantized), `columns.json` and `export.json`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from slipway.bundle.format import canonical_json
from slipway.bundle.session import open_session
from slipway.errors import GateError
from slipway.provider import CPU
from tasks import columns, graph
from tasks.columns import Arrays, Columns
from tasks.models import load_family
from tasks.shards import read_features

if TYPE_CHECKING:
    from slipway.config import ExportConfig
    from tasks.models.family import Model

NETWORK = "network"
FAMILIES = (NETWORK,)
"""Whose weights become a graph."""

FACTS = "export.json"

PARITY_ROWS = 1024
"""Golden rows to compare on; a row that differs differs among these, or prove finds it."""


def run(config: "ExportConfig", *, weights: Path, prepared: Path, golden: Path, fp32: Path) -> None:
    """Export, compare with torch, write."""
    raw = columns.from_features(read_features(prepared))
    trained = load_family(NETWORK).load(weights)
    core = trained.to_core(config.opset)
    model = graph.to_bytes(graph.attach_columns(core, raw.inputs))
    rows, _ = columns.read_golden_rows(golden, raw)
    session = open_session(model, CPU, 1)
    parity = compare(
        lambda arrays: session.run(arrays)[graph.PROBABILITY],
        trained,
        raw=raw,
        rows=rows.slice(0, PARITY_ROWS),
        batches=config.parity_batches,
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


def compare(
    run: Callable[[Arrays], np.ndarray],
    model: "Model",
    *,
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
            expected = model.predict(*raw.codes(part))
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
