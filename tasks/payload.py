"""Put together what a bundle's version is the digest of: model, contract, gates, golden set.

Everything in it was made and proven before; this only writes down what a caller may rely on.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.bundle.contract import Contract, Requires
from slipway.bundle.format import canonical_json
from slipway.bundle.gate import INVARIANCE
from slipway.bundle.memory import memory_bytes
from tasks import columns, graph
from tasks.candidates import CandidateModel, parse

if TYPE_CHECKING:
    from slipway.config import PayloadConfig


def run(
    config: "PayloadConfig",
    *,
    gates: Path,
    candidates: Mapping[CandidateModel, Path],
    payload: Path,
) -> None:
    """Copy the chosen candidate's files and write the contract beside them."""
    proven = json.loads((gates / "gates.json").read_text("utf-8"))
    chosen = proven["chosen"]
    candidate = parse(chosen)
    raw = columns.read_columns(candidates[candidate.reference])
    model = candidates[candidate] / graph.MODEL
    measured = {g["gate"]: g["measured"] for g in proven["precisions"][chosen]["gates"]}
    contract = Contract(
        model=proven["model"],
        problem=raw.target.problem,
        target=raw.target.name,
        classes=list(raw.target.classes) or None,
        decision=raw.answering.decision(),
        precision=chosen,
        inputs=raw.inputs,
        outputs=raw.answering.outputs(config.output_meaning),
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
