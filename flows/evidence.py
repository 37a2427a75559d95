"""Gather what is known of a payload that the stages made: how it was built, and its lineage.

facts on disk + git + dvc.lock + source pins + proof -> the values that slipway.make writes
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.report.facts import Facts, Json, read_facts
from flows.report.panels import parts
from slipway.make.build import BASE, Build, Evidence, TrainingFacts
from slipway.make.lineage import SourceFile, lineage
from slipway.runs.git import GitState
from tasks.sources import read_pins


def gather(root: Path, pipeline: str, proof: Mapping[str, Any], git: GitState) -> Evidence:
    """Return the evidence of the payload that a pipeline's stages left."""
    facts = read_facts(root, pipeline)
    metrics = facts.metrics
    sections = {
        "git": git.to_dict(),
        "dvc_lock": locked_outs(root, pipeline),
        "rows": _rows(facts),
        "config": facts.config.model_dump(mode="json", by_alias=True) if facts.config else {},
        "family": facts.shipped,
        "training": {
            name: {
                "best_step": history.best_step,
                "stopped": history.stopped,
                "parameters": history.parameters,
                "processes": history.processes,
            }
            for name, history in facts.histories.items()
        },
        "metrics": {
            **{name: measured.values for name, measured in metrics.families.items()},
            "base": metrics.base.values or None,
        },
    }
    sources = _sources(root, pipeline, facts)
    return Evidence(
        proof, lineage(proof, pipeline, sources, sections=sections, root=root), build_of(facts)
    )


def build_of(facts: Facts) -> Build:
    """Put what the stages wrote into the form that cards and SBOMs are made of."""
    metrics = facts.metrics
    compared = facts.choice.families
    return Build(
        problem=facts.problem,
        rows=facts.table.rows,
        time_range=facts.table.time_range,
        quarantined=facts.validation.rows_quarantined,
        parts=parts(facts),
        shipped=facts.shipped,
        trainings={
            name: TrainingFacts(history.parameters, history.best_step, history.stopped)
            for name, history in facts.histories.items()
            if history.best_step is not None
        },
        quality={**metrics.families, BASE: metrics.base},
        losses={name: each.loss for name, each in compared.items() if each.loss},
        slices=metrics.slices,
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


def _sources(root: Path, pipeline: str, facts: Facts) -> dict[str, SourceFile]:
    """Join the pins (what was accepted) with the rows that were read from them."""
    pins = read_pins(root / "data" / pipeline / "sources.lock")
    rows = {name: source.rows for name, source in facts.table.sources.items()}
    return {
        name: SourceFile(
            url=pin.url,
            sha256=pin.sha256,
            size_bytes=pin.size_bytes,
            rows=rows.get(name),
            about={"files": str(len(pin.members))} if pin.members else None,
        )
        for name, pin in pins.items()
    }


def _rows(facts: Facts) -> Json:
    return {
        "raw": facts.table.rows,
        "valid": facts.validation.rows_valid,
        "quarantined": facts.validation.rows_quarantined,
        "golden": facts.golden.rows,
        **facts.features.rows,
    }
