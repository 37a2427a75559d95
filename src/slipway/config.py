"""The pipeline's configuration: one section per stage, all of it checked before anything runs.

The schema holds no defaults for what changes bytes: DVC follows the values in `configs/`,
not defaults in Python. A stage gets its own section and never sees the others.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from slipway.errors import ConfigError
from slipway.hours import Hours
from slipway.precision import name_of
from slipway.provider import Provider
from slipway.sections import Section, parse, suggest
from slipway.source import Source as Source

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Pipelines, fleets and hosts: they become file names, URLs and model names."""

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Tables and columns: they stand in SQL."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy, scikit-learn and torch all take."""


EnvironmentPolicy = Literal["refuse", "record"]
"""What is done where other versions are installed than requirements.lock has."""


class IngestConfig(Section):
    """What table is made from which sources."""

    sources: Annotated[dict[Identifier, Source], Field(min_length=1)]
    """The tables that the query may name."""
    query: str
    """One DuckDB SELECT. Only what is known at the moment of prediction may go in."""
    key: Annotated[list[Identifier], Field(min_length=1)]
    """The columns that name a row; unique over the table."""
    time: Identifier
    """The column (timestamp) that places a row in time."""
    label: Identifier
    """The column (0 or 1) to be predicted."""

    @property
    def problem(self) -> str:
        """The problem that this kind of label poses."""
        return "binary"


class ValidateConfig(Section):
    """What the table must look like; the rules themselves are in `configs/expectations/`."""

    rows_min: Positive
    """Fewer rows than this stop the line."""
    rows_max: Positive
    """More rows than this stop the line."""
    quarantine_share_max: Share
    """The largest share of rows that may break a row-level rule and be set aside."""
    timeout_s: Positive
    """Great Expectations can spin for ever when a metric keeps failing."""

    @model_validator(mode="after")
    def _some_row_count_passes(self) -> Self:
        if self.rows_min > self.rows_max:
            raise ValueError(f"rows_min {self.rows_min} is more than rows_max {self.rows_max}")
        return self


class GoldenConfig(Section):
    """Which days are set aside, and how many of their rows form the golden set."""

    start: date
    """First day of the window that golden days come from."""
    end: date
    """The day after the window's last day."""
    share_of_days: Annotated[float, Field(gt=0, le=1)]
    """Share of days set aside; a hash of the day decides, so new data cannot move it."""
    rows: Annotated[int, Field(ge=200)]
    """Rows of those days, those with the smallest hash of the key."""

    @model_validator(mode="after")
    def _has_days(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must be after start {self.start}")
        return self


class Period(Section):
    """Days from `start` up to, not including, `end`."""

    start: date
    """The first day."""
    end: date
    """The day after the last day."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must be after start {self.start}")
        return self


class PrepareConfig(Section):
    """Which columns the model sees, and which days train, stop and test it."""

    categories: dict[Identifier, str]
    """Columns that hold one of few values, with their meaning (for the contract)."""
    numbers: dict[Identifier, str]
    """Columns that hold a number, with their meaning and unit (for the contract)."""
    min_category_rows: Positive
    """A value seen in fewer training rows than this counts as unknown."""
    train: Period
    """Days that the model learns from (golden days are taken out)."""
    validation: Period
    """Days that early stopping looks at; after the training days."""
    test: Period
    """Days that the model is judged on; after the validation days."""
    shard_rows: Positive
    """Rows per Arrow file."""

    @model_validator(mode="after")
    def _in_time_order(self) -> Self:
        if not self.train.end <= self.validation.start < self.validation.end <= self.test.start:
            raise ValueError("train, validation and test must follow each other in time")
        if not self.categories or not self.numbers:
            raise ValueError("at least one category and one number are needed")
        if both := sorted(set(self.categories) & set(self.numbers)):
            raise ValueError(f"both a category and a number: {', '.join(both)}")
        return self


class TrainConfig(Section):
    """How the network is built and trained."""

    processes: Positive
    """torchrun processes: one per GPU, or how many share the CPU."""
    threads: Positive
    """CPU threads per process. Part of the bytes: sums differ between thread counts."""
    seed: Seed
    """Seed of weights, order of rows and dropout."""
    epochs: Positive
    """Passes over the training rows, at most."""
    batch_rows: Positive
    """Rows per process and step."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Peak of the cosine schedule."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """Steps of linear warm-up before the cosine."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Decoupled weight decay (AdamW), on matrices only."""
    average_decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay per step of the moving average of the weights, which is what is kept."""
    patience: Positive
    """Evaluations without a better validation log loss before training stops."""
    evaluate_every_steps: Positive
    """Steps between two evaluations on the validation rows."""
    checkpoint_every_steps: Positive
    """Steps between two checkpoints."""
    hidden: Positive
    """Width of the residual blocks."""
    blocks: Positive
    """Number of residual blocks."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Dropout inside the blocks."""
    unknown_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of training categories shown as unknown, so that unknown is learned too."""


class TreeConfig(Section):
    """scikit-learn's HistGradientBoostingClassifier, the model to be measured against."""

    max_iter: Positive
    """Trees."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Shrinkage of each tree."""
    max_leaf_nodes: Annotated[int, Field(ge=2)]
    """Leaves of each tree."""
    seed: Seed
    """Seed of its random numbers."""


class EvaluateConfig(Section):
    """How the model is measured on the test days."""

    slices: list[str]
    """Columns by whose values the measures are broken down, for people: no gate looks at them."""
    slice_rows_min: Positive
    """Smaller slices are shown as such: their AUC is noise."""
    calibration_bins: Positive
    """Bins of equal count in the calibration plot."""
    tree: TreeConfig
    """The reference model, fitted on the same rows."""


class ExportConfig(Section):
    """How the ONNX graph is made and compared with torch."""

    opset: Annotated[int, Field(ge=18)]
    """ONNX opset of the default domain."""
    parity_batches: Annotated[list[Positive], Field(min_length=1)]
    """Batch sizes at which the graph must agree with torch."""
    parity_max: Annotated[float, Field(gt=0)]
    """Largest difference of a probability between the graph and torch."""


class StaticInt8Config(Section):
    """Static quantization: scales are fixed from calibration rows."""

    calibration_rows: Positive
    """Training rows whose activations set the scales."""
    method: Literal["minmax", "entropy", "percentile"]
    """How a scale is taken from the activations."""
    per_channel: bool
    """One weight scale per output channel rather than per matrix."""


class DynamicInt8Config(Section):
    """Dynamic quantization: scales are taken from each batch as it comes."""

    per_channel: bool
    """One weight scale per output channel rather than per matrix."""


class QuantizeConfig(Section):
    """One key per precision that dvc.yaml's matrix names."""

    model_config = ConfigDict(alias_generator=name_of)

    int8_static: StaticInt8Config
    """QDQ int8 with calibrated scales."""
    int8_dynamic: DynamicInt8Config
    """int8 weights, activations quantized on the fly."""
    timeout_s: Positive
    """Conversions have been seen to hang and to crash: each runs in a child under this limit."""


@dataclass(frozen=True)
class QualityLimit:
    """What one measure of quality is held to."""

    worst: float
    """The value that no model may be worse than, whatever the reference says."""
    loss_max: float
    """How much worse than the reference it may be."""


class ProveConfig(Section):
    """The limits that every precision is held to on the golden set."""

    provider: Provider
    """Where the model will run; timed there and required there."""
    threads: Positive
    """CPU threads of the inference session."""
    parity_max: Annotated[float, Field(gt=0)]
    """Largest difference of a probability from fp32 on any golden row."""
    parity_mean_max: Annotated[float, Field(gt=0)]
    """Mean difference of a probability from fp32 over the golden rows."""
    tolerance: Annotated[float, Field(gt=0)]
    """Largest difference that a host may find when it re-runs the golden set."""
    invariance_max: Annotated[float, Field(ge=0)]
    """Largest change of a row's probability with its neighbours in a batch."""
    auc_drop_max: Annotated[float, Field(ge=0)]
    """Largest loss of golden AUC against fp32."""
    log_loss_rise_max: Annotated[float, Field(ge=0)]
    """Largest rise of golden log loss against fp32."""
    auc_floor: Share
    """The golden AUC that no model may fall below, whatever the reference says."""
    log_loss_ceiling: Annotated[float, Field(gt=0)]
    """The golden log loss that no model may exceed, whatever the reference says."""
    cheaper_by_min: Share
    """A cheaper precision must save this share of fp32's p50 time in every round."""
    latency_rows: Positive
    """Rows per timed call."""
    latency_rounds: Annotated[int, Field(ge=3)]
    """Rounds in which the precisions take turns, so that a noisy minute hits all alike."""
    latency_calls: Annotated[int, Field(ge=20)]
    """Timed calls per round and precision."""

    @property
    def quality(self) -> dict[str, QualityLimit]:
        """What each gated measure is held to, by its key."""
        return {
            "auc": QualityLimit(self.auc_floor, self.auc_drop_max),
            "log_loss": QualityLimit(self.log_loss_ceiling, self.log_loss_rise_max),
        }


class PayloadConfig(Section):
    """What the contract says about the answer."""

    output_meaning: str
    """What the probability is the probability of."""
    max_rows: Positive
    """The most rows that one request may carry."""


class ReleaseLimits(Section):
    """How much worse than the stable version a candidate may look."""

    error_share_rise_max: Share
    """Share of failed requests above that of stable."""
    auc_drop_max: Share
    """AUC below that of stable on the same golden rows."""
    log_loss_rise_max: Annotated[float, Field(ge=0)]
    """Log loss above that of stable on the same golden rows."""
    p99_ratio_max: Annotated[float, Field(gt=1)]
    """p99 latency as a multiple of that of stable in the same window."""
    p99_slack_ms: Annotated[float, Field(ge=0)]
    """A p99 difference below this is never held against a candidate."""

    @property
    def quality(self) -> dict[str, float]:
        """How much worse than stable each gated measure may be, by its key."""
        return {"auc": self.auc_drop_max, "log_loss": self.log_loss_rise_max}


class ReleaseConfig(Section):
    """How a version takes over from the one that serves."""

    percent: Annotated[int, Field(ge=1, le=100)]
    """Share of callers that the candidate answers during the canary."""
    lease_s: Annotated[float, Field(gt=0)]
    """Hosts drop the candidate by themselves when no beat came for this long."""
    requests: Annotated[int, Field(ge=50)]
    """Golden requests sent to each side and host before judging."""
    rows_per_request: Positive
    """Golden rows in each of those requests."""
    wait_s: Annotated[float, Field(gt=0)]
    """The longest wait for hosts to take up a channel."""
    limits: ReleaseLimits
    """How much worse a candidate may look."""


class AcceptLimits(Section):
    """How far new data may differ from what was accepted last before a person must look."""

    rows_shrink_max: Share
    """The largest share of rows that may be gone."""
    rows_grow_max: Annotated[float, Field(ge=1)]
    """The most rows, as a multiple of those before."""
    null_share_change_max: Share
    """How far the share of rows without a value may move, up or down, in any column."""
    range_widen_max: Annotated[float, Field(ge=1)]
    """How many times as wide as before a column's numbers may spread, old and new together."""
    new_columns: bool
    """Whether a file may have columns that it did not have."""


class AcceptConfig(Section):
    """Whether changed sources are taken as they are. No stage sees this, so none becomes stale."""

    policy: Literal["auto", "within limits", "ask"]
    """`auto` shows a change and takes it, `within limits` stops at one beyond `limits`, `ask` at
    every one; a stopped change waits for `slipway accept`."""
    limits: AcceptLimits | None = None
    """What `within limits` holds a change to."""

    @model_validator(mode="after")
    def _has_the_limits_it_names(self) -> Self:
        if self.policy == "within limits" and self.limits is None:
            raise ValueError(
                "policy 'within limits' needs limits: rows_shrink_max, rows_grow_max,"
                " null_share_change_max, range_widen_max, new_columns"
            )
        return self


class Config(Section):
    """One complete pipeline."""

    accept: AcceptConfig = AcceptConfig(policy="auto")
    """How changed sources are accepted; `auto` if left out."""

    ingest: IngestConfig
    """Sources and the query that joins them."""
    validate_: ValidateConfig = Field(alias="validate")
    """Limits beside the expectation suite."""
    golden: GoldenConfig
    """The golden set's rule."""
    prepare: PrepareConfig
    """Features and the split in time."""
    train: TrainConfig
    """The network and its training."""
    evaluate: EvaluateConfig
    """Measures on the test days."""
    export: ExportConfig
    """ONNX export."""
    quantize: QuantizeConfig
    """The cheaper precisions."""
    prove: ProveConfig
    """The gates."""
    payload: PayloadConfig
    """The contract's words."""
    release: ReleaseConfig
    """The canary."""
    hours: Hours | None = None
    """When runs of a deployment may work; any time if left out. One from a desk always may."""
    environment: EnvironmentPolicy = "refuse"
    """Where other versions are installed than requirements.lock has: `refuse` to run a stage, or
    `record` it with the run. No stage's setting, so no stage is stale for it."""

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        problems = [*self._golden_days_that_are_trained_on(), *self._features_known_later()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _golden_days_that_are_trained_on(self) -> Iterator[str]:
        if self.golden.start < self.prepare.test.start or self.golden.end > self.prepare.test.end:
            yield (
                f"golden window {self.golden.start}..{self.golden.end} must lie inside the test"
                f" days {self.prepare.test.start}..{self.prepare.test.end}"
            )

    def _features_known_later(self) -> Iterator[str]:
        features = {*self.prepare.categories, *self.prepare.numbers}
        later = {c for source in self.ingest.sources.values() for c in source.known_later}
        later.add(self.ingest.label)
        if leaks := sorted(features & later):
            yield f"features known only later: {', '.join(leaks)}"

    def section(self, stage: str) -> Section:
        """Return the section that belongs to a stage."""
        part = getattr(self, "validate_" if stage == "validate" else stage)
        assert isinstance(part, Section)
        return part


NO_PIPELINES = frozenset({"backup", "notify", "remote"})
"""Files of `configs/` that are about the project as a whole."""


def pipelines(root: Path) -> list[str]:
    """Name the pipelines that a project holds."""
    names = {path.stem for path in (root / "configs").glob("*.yaml")}
    return sorted(names - NO_PIPELINES)


def load_config(root: Path, pipeline: str) -> Config:
    """Read `configs/<pipeline>.yaml` under `root`; raise ConfigError with every problem."""
    if pipeline not in (known := pipelines(root)) or not NAME.fullmatch(pipeline):
        near, all_of_them = suggest(pipeline, known), ", ".join(known) or "none"
        problem = f"unknown pipeline {pipeline!r}{near}; there is: {all_of_them}"
        raise ConfigError("the command line", [problem])
    return parse(Config, root / "configs" / f"{pipeline}.yaml", root)
