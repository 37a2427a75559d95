"""Write the evidence that travels with a payload: proof, lineage, SBOM, model card.

The same inputs give the same files: the only time in them is that of the proof.
"""

from pathlib import Path

from slipway.bundle.format import canonical_json
from slipway.make.build import Evidence
from slipway.make.card import card
from slipway.make.sbom import sbom


def write_evidence(payload: Path, evidence: Evidence, bundle: Path) -> None:
    """Write the four evidence files of a payload into the bundle's folder."""
    documents = {
        "proof.json": dict(evidence.proof),
        "lineage.json": dict(evidence.lineage),
        "sbom.cdx.json": sbom(payload, evidence),
    }
    for name, document in documents.items():
        (bundle / name).write_bytes(canonical_json(document))
    (bundle / "card.md").write_text(card(payload, evidence), "utf-8")
