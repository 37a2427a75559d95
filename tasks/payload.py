"""Put together what a bundle's version is the digest of: model, contract, gates, golden set.

Everything in it was made and proven before; this only writes down what a caller may rely on.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.bundle.contract import Contract, OutputTensor, Requires
from slipway.bundle.format import canonical_json
from slipway.bundle.gate import INVARIANCE
from slipway.bundle.memory import memory_bytes
from slipway.precision import REFERENCE
from slipway.problem import PROBLEMS
from tasks import columns, graph

if TYPE_CHECKING:
    from slipway.config import PayloadConfig


def run(
    config: "PayloadConfig",
    *,
    gates: Path,
    precisions: Mapping[str, Path],
    payload: Path,
) -> None:
    """Copy the chosen precision's files and write the contract beside them."""
    proven = json.loads((gates / "gates.json").read_text("utf-8"))
    chosen = proven["chosen"]
    raw = columns.read_columns(precisions[REFERENCE])
    output = PROBLEMS[raw.problem].output
    model = precisions[chosen] / graph.MODEL
    measured = {g["gate"]: g["measured"] for g in proven["precisions"][chosen]["gates"]}
    contract = Contract(
        model=proven["model"],
        problem=raw.problem,
        precision=chosen,
        inputs=raw.inputs,
        outputs=[
            OutputTensor(
                name=output.name,
                datatype=output.datatype,
                shape=[-1],
                meaning=config.output_meaning,
                range=output.range,
            )
        ],
        max_rows=config.max_rows,
        requires=Requires(
            provider=proven["provider"], memory_bytes=memory_bytes(model.stat().st_size)
        ),
        batch_invariance_max=measured[INVARIANCE],
    )
    shutil.copyfile(model, payload / graph.MODEL)
    for name in ("gates.json", "golden.arrow"):
        shutil.copyfile(gates / name, payload / name)
    (payload / "contract.json").write_bytes(canonical_json(contract.model_dump(mode="json")))
