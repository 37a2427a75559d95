"""Read what the stages left on disk, for the report and the evidence of a bundle.

Every file is parsed once, here; one that is not there, or cannot be read, is an empty
record. Folders outlive runs, so a report that named an earlier run's numbers would lie: of a
given run only what its own stages stand for is read.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from flows.report.outputs import UNCHANGED, Changed, changed_since
from slipway.config import Config, load_config
from slipway.errors import ConfigError
from slipway.make.build import NOT_MEASURED, LossFacts, Measures
from slipway.make.lineage import SourceFile
from slipway.problem import BINARY, PROBLEMS, Problem
from slipway.problem.record import CalibrationBin
from slipway.runs.parsing import parse
from slipway.runs.run import GateResult, Run
from slipway.wording import moment, number
from tasks import sums

Json = dict[str, Any]

SMALL_SLICE_ROWS = 200
"""Smaller slices are shown as noise, where the metrics do not say otherwise."""

STAGE_FILES = {
    "table": ("ingest", "data/{pipeline}/raw/table.json"),
    "validation": ("validate", "data/{pipeline}/valid/validation.json"),
    "golden": ("golden", "data/{pipeline}/golden/golden.json"),
    "features": ("prepare", "data/{pipeline}/prepared/features.json"),
    "metrics": ("evaluate", "models/{pipeline}/evaluation/metrics.json"),
    "choice": ("evaluate", "models/{pipeline}/evaluation/choice.json"),
    "gates": ("prove", "models/{pipeline}/gates/gates.json"),
    "timings": ("prove", ".slipway/reports/{pipeline}/prove.json"),
}
"""Name of a fact: the stage that writes it, and the file."""

FAMILY_FILES = {
    "histories": ("train", "training-report/history.json"),
    "exports": ("export", "fp32/export.json"),
}
"""The same of facts that every family has, below `models/PIPELINE/FAMILY`."""


DONE = {"ran", "skipped"}
"""States of a stage whose outs are what this run stands for."""

BROKEN_OFF = {"failed", "stopped"}
"""States of a stage that may have written before it ended."""


def _measures(value: Any) -> Any:
    """Take the numbers of a mapping, in which the keys are a problem's measures."""
    if not isinstance(value, dict):
        return value
    return {"values": {k: v if number(v) is not None else None for k, v in value.items()}}


Measured = Annotated[Measures, BeforeValidator(_measures)]


@dataclass(frozen=True)
class Table:
    """What ingest made of the sources."""

    rows: int | None = None
    time_range: tuple[str, str] | None = None
    sources: dict[str, SourceFile] = field(default_factory=dict)


@dataclass(frozen=True)
class Expectation:
    """One rule, and how many rows are against it."""

    rule: str = ""
    """In words."""
    level: str = ""
    """`row` or `suite`."""
    success: bool = False
    unexpected: int | None = None


@dataclass(frozen=True)
class Validation:
    """What became of the rows that were held against every rule."""

    rows_in: int | None = None
    rows_valid: int | None = None
    rows_quarantined: int | None = None
    expectations: tuple[Expectation, ...] = ()


@dataclass(frozen=True)
class GoldenFacts:
    """The units that were set aside for proving."""

    by: str = "time"
    """What the units are: days (time), groups, or rows."""
    rows: int | None = None
    unit_count: int | None = None
    units: tuple[str, ...] = ()
    """Their names, where they are days or groups and not too many."""
    base_rate: float | None = None
    largest_class: float | None = None
    mean: float | None = None

    def level(self, key: str) -> float | None:
        """Return what the problem tells of the golden rows' target."""
        found: float | None = getattr(self, key, None)
        return found


@dataclass(frozen=True)
class Features:
    """What was prepared: each part's rows, and what the problem tells of its target."""

    rows: dict[str, int] = field(default_factory=dict)
    parts: dict[str, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """The course of a training."""

    steps: tuple[Measured, ...] = ()
    """`step` and `train_loss`."""
    evaluations: tuple[Measured, ...] = ()
    """`step`, and what was measured of the validation rows there."""
    best_step: int | None = None
    stopped: str | None = None
    """Why it ended."""
    parameters: int | None = None
    processes: int | None = None


@dataclass(frozen=True)
class Compared:
    """One family beside the best one on the same rows."""

    measures: Measured = NOT_MEASURED
    loss: LossFacts | None = None


@dataclass(frozen=True)
class Choice:
    """What the rows that choose say of the families."""

    best: str | None = None
    rows: int | None = None
    families: dict[str, Compared] = field(default_factory=dict)


@dataclass(frozen=True)
class QualityFacts:
    """How well the test rows were answered, by whom."""

    problem: str | None = None
    families: dict[str, Measured] = field(default_factory=dict)
    base: Measured = NOT_MEASURED
    """By the one answer that looks at no feature."""
    differences: dict[str, Compared] = field(default_factory=dict)
    """How much each family loses on them."""
    calibration: dict[str, tuple[CalibrationBin, ...]] = field(default_factory=dict)
    """By family."""
    slice_rows_min: int | None = None
    slices: dict[str, dict[str, Measured]] = field(default_factory=dict)
    """By column and value."""


@dataclass(frozen=True)
class Exported:
    """What came of making the model in one precision."""

    made: bool = False
    reason: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class PrecisionGates:
    """The gates of one precision, and what they came to."""

    verdict: str | None = None
    reason: str | None = None
    gates: tuple[GateResult, ...] = ()


@dataclass(frozen=True)
class GatesFile:
    """Which precision was chosen, and why not the others."""

    chosen: str | None = None
    precisions: dict[str, PrecisionGates] = field(default_factory=dict)


@dataclass(frozen=True)
class LatencyFacts:
    """How long calls of one precision take."""

    p50_ms: float | None = None
    p99_ms: float | None = None
    rows: int | None = None
    """Rows of a call."""
    size_bytes: int | None = None


@dataclass(frozen=True)
class Hardware:
    """What it was timed on."""

    cpu: str | None = None


@dataclass(frozen=True)
class Timings:
    """Every precision's latency."""

    provider: str | None = None
    hardware: Hardware = Hardware()
    latency: dict[str, LatencyFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """Everything the stages wrote about themselves; empty where nothing was written."""

    table: Table = Table()
    validation: Validation = Validation()
    golden: GoldenFacts = GoldenFacts()
    features: Features = Features()
    histories: dict[str, History] = field(default_factory=dict)
    """By family."""
    metrics: QualityFacts = QualityFacts()
    choice: Choice = Choice()
    exports: dict[str, Exported] = field(default_factory=dict)
    """By family."""
    gates: GatesFile = GatesFile()
    timings: Timings = Timings()
    quantized: dict[str, Exported] = field(default_factory=dict)
    config: Config | None = None
    changed: Changed = UNCHANGED
    """What is no longer as the run left it, and so is not in here."""

    @property
    def problem(self) -> Problem:
        """Give the problem that was measured, or that the config poses where nothing was yet."""
        posed = self.config.ingest.problem if self.config else BINARY.name
        return PROBLEMS.get(self.metrics.problem or posed, BINARY)

    @property
    def shipped(self) -> str:
        """Name the family that was chosen: by the proof, else by the rows that choose."""
        if self.gates.chosen:
            return self.gates.chosen.partition("-")[0]
        known = self.metrics.families or self.histories
        return self.choice.best or next(iter(known), "")

    @property
    def families_in_words(self) -> tuple[str, str]:
        """Name the family that was chosen, and the one that it is drawn beside."""
        others = [name for name in self.metrics.families if name != self.shipped]
        return self.shipped, next(iter(others), "")

    @property
    def history(self) -> History:
        """Return how the model that was chosen came about."""
        return self.histories.get(self.shipped, History())

    @property
    def test(self) -> Measures:
        """Return what was measured of the model that was chosen."""
        return self.metrics.families.get(self.shipped, NOT_MEASURED)

    @property
    def slice_rows_min(self) -> int:
        """Give the size below which a slice's AUC is noise."""
        return self.metrics.slice_rows_min or SMALL_SLICE_ROWS


def read_facts(root: Path, pipeline: str, run: Run | None = None) -> Facts:
    """Gather the facts of a pipeline: all that are there, or those that `run` stands for."""
    changed = UNCHANGED if run is None else changed_since(root, run)
    may_read = _everything if run is None else _of_run(run, changed)
    found: Json = {
        name: read_json(path)
        for name, (stage, pattern) in STAGE_FILES.items()
        if may_read(stage, path := root / pattern.format(pipeline=pipeline))
    }
    models = root / "models" / pipeline
    found["quantized"] = {
        f"{path.parent.parent.name}-{path.parent.name}": read_json(path)
        for path in sorted(models.glob("*/*/result.json"))
        if may_read("quantize", path)
    }
    for name, (stage, file) in FAMILY_FILES.items():
        found[name] = {
            path.relative_to(models).parts[0]: read_json(path)
            for path in sorted(models.glob(f"*/{file}"))
            if may_read(stage, path)
        }
    config = None if changed.config else _config(root, pipeline)
    return replace(parse(Facts, found), config=config, changed=changed)


def read_json(path: Path) -> Json:
    """Read one mapping; a file that is missing or broken counts as nothing written.

    One that differs from its folder's seal raises SlipwayError: no page or card tells of damage.
    """
    try:
        # NaN and infinity are no JSON: Python writes them where training diverged
        value = json.loads(sums.read(path), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _everything(stage: str, path: Path) -> bool:
    return True


def _of_run(run: Run, changed: Changed) -> Callable[[str, Path], bool]:
    """Tell the files a run stands for from those an earlier run left behind.

    What a stage that ran, was restored or was skipped wrote is right by DVC's word. One that
    failed or was stopped is believed only where it wrote after the run had started: DVC
    deletes outs before a stage runs, but it may have failed before that. Of a stage whose
    folders another run has written since, nothing is.
    """
    states: dict[str, set[str]] = {}
    for outcome in run.stages:
        states.setdefault(outcome.name, set()).add(outcome.state)
    started = moment(run.started_at)

    def may_read(stage: str, path: Path) -> bool:
        if stage in changed.stages:
            return False
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
