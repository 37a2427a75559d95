"""Put together what a bundle's version is the digest of: model, contract, gates, golden set.

Everything in it was made and proven before; this only writes down what a caller may rely on.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.bundle.contract import Contract, OutputTensor, Requires
from slipway.bundle.format import canonical_json
from tasks import columns, graph

if TYPE_CHECKING:
    from slipway.config import PayloadConfig

MEMORY_PER_MODEL_BYTE = 4
"""Loading peaks at 2.9 times the file (measured at 100 MB): its bytes as read, the weights
parsed from them, and the weights packed for the kernels."""

MEMORY_BASE_BYTES = 64 << 20
"""The runtime itself and a batch's activations; the default model's 1,024 rows took 18 MB."""


def run(
    config: "PayloadConfig",
    *,
    gates: Path,
    fp32: Path,
    int8_static: Path,
    int8_dynamic: Path,
    payload: Path,
) -> None:
    """Copy the chosen precision's files and write the contract beside them."""
    proven = json.loads((gates / "gates.json").read_text("utf-8"))
    chosen = proven["chosen"]
    folders = {"fp32": fp32, "int8-static": int8_static, "int8-dynamic": int8_dynamic}
    model = folders[chosen] / graph.MODEL
    measured = {g["gate"]: g["measured"] for g in proven["precisions"][chosen]["gates"]}
    contract = Contract(
        model=proven["model"],
        precision=chosen,
        inputs=columns.read_columns(fp32).inputs,
        outputs=[
            OutputTensor(
                name=graph.PROBABILITY,
                datatype="FP32",
                shape=[-1],
                meaning=config.output_meaning,
                range=(0.0, 1.0),
            )
        ],
        max_rows=config.max_rows,
        requires=Requires(
            provider=proven["provider"], memory_bytes=memory_bytes(model.stat().st_size)
        ),
        batch_invariance_max=measured["batch invariance"],
    )
    shutil.copyfile(model, payload / graph.MODEL)
    for name in ("gates.json", "golden.arrow"):
        shutil.copyfile(gates / name, payload / name)
    (payload / "contract.json").write_bytes(canonical_json(contract.model_dump(mode="json")))


def memory_bytes(model_bytes: int) -> int:
    """Estimate what a host must have free to load a model and run its largest batch."""
    return MEMORY_BASE_BYTES + MEMORY_PER_MODEL_BYTE * model_bytes
