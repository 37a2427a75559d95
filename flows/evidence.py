"""Write the papers that travel with a payload: lineage, SBOM, model card, proof.

    payload + facts on disk + git + proof -> lineage.json sbom.cdx.json card.md proof.json

The same inputs give the same files: the only time in them is that of the proof.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.card import card
from flows.facts import read_facts
from flows.git import git_state
from flows.lineage import lineage
from flows.sbom import sbom
from slipway.bundle.format import canonical_json

__all__ = ["git_state", "write_evidence"]


def write_evidence(
    root: Path,
    pipeline: str,
    payload: Path,
    proof: Mapping[str, Any],
    bundle: Path,
    git: Mapping[str, Any],
) -> None:
    """Write the four evidence files of a payload into the bundle's folder."""
    traced = lineage(root, pipeline, payload, proof, git)
    facts = read_facts(root, pipeline)
    (bundle / "lineage.json").write_bytes(canonical_json(traced))
    (bundle / "proof.json").write_bytes(canonical_json(dict(proof)))
    (bundle / "sbom.cdx.json").write_bytes(canonical_json(sbom(payload, proof, traced, facts)))
    (bundle / "card.md").write_text(card(payload, proof, traced, facts), "utf-8")
