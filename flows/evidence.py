"""Gather what is known of a payload that the stages made: how it was built, and its lineage.

facts on disk + git + dvc.lock + source pins + proof -> the values that slipway.make writes
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.report.facts import Facts, Json, read_facts, read_json
from flows.report.panels import splits
from slipway.make.build import Build, Evidence, Part
from slipway.make.lineage import Source, lineage
from slipway.wording import number


def gather(root: Path, pipeline: str, proof: Mapping[str, Any], git: Mapping[str, Any]) -> Evidence:
    """Return the evidence of the payload that a pipeline's stages left."""
    facts = read_facts(root, pipeline)
    behind = f"{facts.problem.primary.key}_minus_tree"
    sections = {
        "git": dict(git),
        "dvc_lock": locked_outs(root, pipeline),
        "rows": _rows(facts),
        "config": facts.config.model_dump(mode="json", by_alias=True) if facts.config else {},
        "training": {
            key: facts.history.get(key)
            for key in ("best_step", "stopped", "parameters", "processes")
        },
        "metrics": {key: facts.metrics.get(key) for key in ("test", "tree", "base", behind)},
    }
    sources = _sources(root, pipeline, facts)
    return Evidence(proof, lineage(proof, pipeline, sources, sections, root), build_of(facts))


def build_of(facts: Facts) -> Build:
    """Put what the stages wrote into the form that cards and SBOMs are made of."""
    first, last = [*(facts.table.get("time_range") or []), None, None][:2]
    return Build(
        problem=facts.problem,
        rows=number(facts.table.get("rows")),
        time_range=(first, last) if first and last else None,
        quarantined=number(facts.validation.get("rows_quarantined")),
        parts=tuple(
            Part(part.name, part.days, part.rows, part.base_rate) for part in splits(facts)
        ),
        parameters=number(facts.history.get("parameters")),
        best_step=number(facts.history.get("best_step")),
        stopped=facts.history.get("stopped"),
        quality={key: facts.metrics.get(key) or {} for key in ("test", "tree", "base")},
        slices=facts.metrics.get("slices") or {},
        slice_rows_min=facts.slice_rows_min,
    )


def locked_outs(root: Path, pipeline: str) -> dict[str, dict[str, Json]]:
    """Take from dvc.lock what each stage of a pipeline wrote, with its hash."""
    try:
        lock = yaml.safe_load((root / "dvc.lock").read_text("utf-8")) or {}
    except (OSError, yaml.YAMLError):
        return {}
    ours = (f"data/{pipeline}/", f"models/{pipeline}/")
    found = {
        stage: {
            out["path"]: {key: out[key] for key in ("md5", "size", "nfiles") if key in out}
            for out in entry.get("outs") or []
            if out["path"].startswith(ours)
        }
        for stage, entry in (lock.get("stages") or {}).items()
    }
    return {stage: outs for stage, outs in found.items() if outs}


def _sources(root: Path, pipeline: str, facts: Facts) -> dict[str, Source]:
    """Join the pins (what was accepted) with the rows that were read from them."""
    pins = read_json(root / "data" / pipeline / "sources.lock")
    read = facts.table.get("sources") or {}
    return {
        name: Source(**pin, rows=(read.get(name) or {}).get("rows")) for name, pin in pins.items()
    }


def _rows(facts: Facts) -> Json:
    return {
        "raw": facts.table.get("rows"),
        "valid": facts.validation.get("rows_valid"),
        "quarantined": facts.validation.get("rows_quarantined"),
        "golden": facts.golden.get("rows"),
        **(facts.features.get("rows") or {}),
    }
