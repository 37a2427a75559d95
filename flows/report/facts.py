"""Read what the stages left on disk, for the report and the papers of a bundle.

Knows file names, not meanings: what is there is returned as it was written, what is not
there is an empty mapping. Folders outlive runs, so a report that named an earlier run's
numbers would lie: of a given run only what its own stages stand for is read.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from slipway.config import Config, load_config
from slipway.errors import ConfigError
from slipway.problem import BINARY, PROBLEMS, Problem
from slipway.wording import moment

Json = dict[str, Any]

SMALL_SLICE_ROWS = 200
"""Smaller slices are shown as noise, where the metrics do not say otherwise."""

STAGE_FILES = {
    "table": ("ingest", "data/{pipeline}/raw/table.json"),
    "validation": ("validate", "data/{pipeline}/valid/validation.json"),
    "golden": ("golden", "data/{pipeline}/golden/golden.json"),
    "features": ("prepare", "data/{pipeline}/prepared/features.json"),
    "history": ("train", "models/{pipeline}/training-report/history.json"),
    "architecture": ("train", "models/{pipeline}/weights/architecture.json"),
    "metrics": ("evaluate", "models/{pipeline}/evaluation/metrics.json"),
    "export": ("export", "models/{pipeline}/fp32/export.json"),
    "gates": ("prove", "models/{pipeline}/gates/gates.json"),
    "timings": ("prove", ".slipway/reports/{pipeline}/prove.json"),
    "contract": ("payload", "models/{pipeline}/payload/contract.json"),
}
"""Name of a fact: the stage that writes it, and the file."""


DONE = {"ran", "restored", "skipped"}
"""States of a stage whose outs are what this run stands for."""

BROKEN_OFF = {"failed", "stopped"}
"""States of a stage that may have written before it ended."""


@dataclass(frozen=True)
class Facts:
    """Everything the stages wrote about themselves; empty where nothing was written."""

    table: Json = field(default_factory=dict)
    validation: Json = field(default_factory=dict)
    golden: Json = field(default_factory=dict)
    features: Json = field(default_factory=dict)
    history: Json = field(default_factory=dict)
    architecture: Json = field(default_factory=dict)
    metrics: Json = field(default_factory=dict)
    export: Json = field(default_factory=dict)
    gates: Json = field(default_factory=dict)
    timings: Json = field(default_factory=dict)
    contract: Json = field(default_factory=dict)
    quantized: dict[str, Json] = field(default_factory=dict)
    config: Config | None = None

    @property
    def problem(self) -> Problem:
        """Give the problem that was measured, or that the config poses where nothing was yet."""
        posed = self.config.ingest.problem if self.config else BINARY.name
        return PROBLEMS[self.metrics.get("problem", posed)]

    @property
    def slice_rows_min(self) -> int:
        """Give the size below which a slice's AUC is noise."""
        return int(self.metrics.get("slice_rows_min") or SMALL_SLICE_ROWS)


def read_facts(root: Path, pipeline: str, run: Mapping[str, Any] | None = None) -> Facts:
    """Gather the facts of a pipeline: all that are there, or those that `run` stands for."""
    may_read = _everything if run is None else _of_run(run)
    read = {}
    for name, (stage, pattern) in STAGE_FILES.items():
        path = root / pattern.format(pipeline=pipeline)
        read[name] = read_json(path) if may_read(stage, path) else {}
    quantized = {
        path.parent.name: read_json(path)
        for path in sorted((root / "models" / pipeline).glob("*/result.json"))
        if may_read("quantize", path)
    }
    return Facts(**read, quantized=quantized, config=_config(root, pipeline))


def stage_name(entry: Mapping[str, Any]) -> str:
    """Give `train` for the entry of DVC's `train@flights`."""
    return str(entry.get("stage", "")).partition("@")[0]


def read_json(path: Path) -> Json:
    """Read one mapping; a file that is missing or broken counts as nothing written."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _everything(stage: str, path: Path) -> bool:
    return True


def _of_run(run: Mapping[str, Any]) -> Callable[[str, Path], bool]:
    """Tell the files a run stands for from those an earlier run left behind.

    What a stage that ran, was restored or was skipped wrote is right by DVC's word. One that
    failed or was stopped is believed only where it wrote after the run had started: DVC
    deletes outs before a stage runs, but it may have failed before that.
    """
    states: dict[str, set[str]] = {}
    stages: Iterable[Mapping[str, Any]] = run.get("stages") or []
    for entry in stages:
        states.setdefault(stage_name(entry), set()).add(str(entry.get("state")))
    started = moment(run.get("started_at"))

    def may_read(stage: str, path: Path) -> bool:
        seen = states.get(stage, {"not run"})
        if seen <= DONE:
            return True
        tried = seen <= DONE | BROKEN_OFF
        return tried and started is not None and _written_since(path, started)

    return may_read


def _written_since(path: Path, moment: datetime) -> bool:
    try:
        return path.stat().st_mtime >= moment.timestamp()
    except OSError:
        return False


def _config(root: Path, pipeline: str) -> Config | None:
    try:
        return load_config(root, pipeline)
    except (ConfigError, OSError):
        return None
