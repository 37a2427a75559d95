"""The pipeline's configuration: one section per stage, all of it checked before anything runs.

The schema holds no defaults for what changes bytes: DVC follows the values in `configs/`,
not defaults in Python. A stage gets its own section and never sees the others.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from slipway.errors import ConfigError
from slipway.hours import Hours
from slipway.precision import name_of
from slipway.provider import Provider
from slipway.sections import Section, parse, suggest
from slipway.settings.answers import AnswerConfig
from slipway.settings.families import OFF, FamiliesConfig
from slipway.settings.kinds import Positive, Share
from slipway.settings.quality import LossMax, QualityLimit
from slipway.settings.split import GivenSplit, GroupSplit, SplitConfig, TimeSplit
from slipway.settings.target import RegressionTarget, TargetConfig
from slipway.source import Source as Source

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Pipelines, fleets and hosts: they become file names, URLs and model names."""

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Tables and columns: they stand in SQL."""

EnvironmentPolicy = Literal["refuse", "record"]
"""What is done where other versions are installed than requirements.lock has."""


class IngestConfig(Section):
    """What table is made from which sources."""

    sources: Annotated[dict[Identifier, Source], Field(min_length=1)]
    """The tables that the query may name."""
    query: str
    """One DuckDB SELECT. Only what is known at the moment of prediction may go in."""
    key: list[Identifier]
    """The columns that name a row; unique over the table. None: a row is named by its content,
    and rows that are the same in every column are one unit of the split."""
    time: Identifier | None
    """The column (timestamp) that places a row in time; null where rows have none."""
    target: TargetConfig
    """What is to be predicted."""
    weight: Identifier | None
    """The column that says how much a row counts, in training and in every measure; null: all
    alike."""

    @property
    def label(self) -> str:
        """Name the column to be predicted."""
        return self.target.column

    @property
    def problem(self) -> str:
        """Name the problem that it poses."""
        return self.target.problem

    @model_validator(mode="after")
    def _leaks_are_told_by_the_key(self) -> Self:
        if not self.key and (later := [n for n, s in self.sources.items() if s.known_later]):
            raise ValueError(
                f"key: needed where a source ({', '.join(later)}) has known_later columns: what"
                " depends on them is found by comparing rows of the same key"
            )
        if self.time is None and (early := [n for n, s in self.sources.items() if s.known_at]):
            raise ValueError(
                f"time: needed where a source ({', '.join(early)}) says known_at: a row may depend"
                " on what was known before its time"
            )
        return self


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
    """Which units of the test part are set aside, and how many of their rows prove a model."""

    share_of_units: Annotated[float, Field(gt=0, le=1)]
    """Share of the test part's units (days, groups, rows) set aside; a hash of the unit decides,
    so new data cannot move it."""
    rows: Annotated[int, Field(ge=20)]
    """Rows of those units, those with the smallest hash of the key."""


class PrepareConfig(Section):
    """Which columns the model sees."""

    categories: dict[Identifier, str]
    """Columns that hold one of few values, with their meaning (for the contract)."""
    numbers: dict[Identifier, str]
    """Columns that hold a number, with their meaning and unit (for the contract)."""
    min_category_rows: Positive
    """A value seen in fewer training rows than this counts as unknown."""
    shard_rows: Positive
    """Rows per Arrow file."""

    @model_validator(mode="after")
    def _has_features(self) -> Self:
        if not self.categories and not self.numbers:
            raise ValueError("at least one category or one number is needed")
        if both := sorted(set(self.categories) & set(self.numbers)):
            raise ValueError(f"both a category and a number: {', '.join(both)}")
        return self


class EvaluateConfig(Section):
    """How the models are measured on the test part."""

    slices: list[str]
    """Columns by whose values the measures are broken down, for people: no gate looks at them."""
    slice_rows_min: Positive
    """Smaller slices are shown as such: their measures are noise."""
    calibration_bins: Positive
    """Bins of equal count in the calibration plot."""


class ExportConfig(Section):
    """How the ONNX graph is made and compared with the model that was trained."""

    opset: Annotated[int, Field(ge=18)]
    """ONNX opset of the default domain."""
    parity_batches: Annotated[list[Positive], Field(min_length=1)]
    """Batch sizes at which the graph must agree with the trained model."""
    parity_max: Annotated[float, Field(gt=0)]
    """Largest difference of an answer between the graph and the trained model: of a probability,
    or of a number in standard deviations of the target."""
    answer: AnswerConfig
    """What is answered beside a probability or a number."""


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


class ProveConfig(Section):
    """The limits that every candidate is held to on the golden set, and how one is chosen.

    Differences of answers are those of a probability, or of a number in standard deviations of
    the target.
    """

    provider: Provider
    """Where the model will run; timed there and required there."""
    threads: Positive
    """CPU threads of the inference session."""
    parity_max: Annotated[float, Field(gt=0)]
    """Largest difference of an answer from fp32 on any golden row."""
    parity_mean_max: Annotated[float, Field(gt=0)]
    """Mean difference of an answer from fp32 over the golden rows."""
    tolerance: Annotated[float, Field(gt=0)]
    """Largest difference that a host may find when it re-runs the golden set."""
    invariance_max: Annotated[float, Field(ge=0)]
    """Largest change of a row's answer with its neighbours in a batch."""
    quality: dict[str, QualityLimit]
    """What each gated measure of the problem is held to, by its key."""
    family_margin: LossMax
    """A family stays in while the primary measure's loss against the best family on the rows that
    choose lies, with its 95 % interval, within this."""
    prefer: Annotated[list[str], Field(min_length=1)]
    """The families in the order in which they are tried; a later one must win clearly."""
    cheaper_by_min: Share
    """A later candidate must save this share of the held one's p50 time in every round."""
    latency_rows: Positive
    """Rows per timed call."""
    latency_rounds: Annotated[int, Field(ge=3)]
    """Rounds in which the precisions take turns, so that a noisy minute hits all alike."""
    latency_calls: Annotated[int, Field(ge=20)]
    """Timed calls per round and precision."""


class PayloadConfig(Section):
    """What the contract says about the answer."""

    output_meaning: str
    """What the answer says: what the probability is the probability of, or what the number is."""
    max_rows: Positive
    """The most rows that one request may carry."""


class ReleaseLimits(Section):
    """How much worse than the stable version a candidate may look."""

    error_share_rise_max: Share
    """Share of failed requests above that of stable."""
    quality: dict[str, LossMax]
    """How much worse than stable each gated measure may be, on the same golden rows, by its key."""
    p99_ratio_max: Annotated[float, Field(gt=1)]
    """p99 latency as a multiple of that of stable in the same window."""
    p99_slack_ms: Annotated[float, Field(ge=0)]
    """A p99 difference below this is never held against a candidate."""


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
    split: SplitConfig
    """Which rows train, stop and choose, and test."""
    golden: GoldenConfig
    """The golden set's rule."""
    prepare: PrepareConfig
    """Features."""
    families: FamiliesConfig
    """The ways to make a model that are tried."""
    evaluate: EvaluateConfig
    """Measures on the test part."""
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
        problems = [
            *self._features_known_later(),
            *self._splits_by_what_there_is(),
            *self._families_in_order(),
            *self._answers_of_the_problem(),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _features_known_later(self) -> Iterator[str]:
        features = {*self.prepare.categories, *self.prepare.numbers}
        later = {c for source in self.ingest.sources.values() for c in source.known_later}
        if leaks := sorted(features & later - {self.ingest.label}):
            yield f"features known only later: {', '.join(leaks)}"
        if self.ingest.label in features:
            yield f"the target {self.ingest.label} is among the features"
        if self.ingest.weight in features:
            yield f"the weight {self.ingest.weight} is among the features"
        if self.ingest.weight == self.ingest.label:
            yield f"ingest.weight: {self.ingest.weight} is the target"

    def _splits_by_what_there_is(self) -> Iterator[str]:
        if isinstance(self.split, TimeSplit) and self.ingest.time is None:
            yield "split.by: time needs ingest.time, the column that places a row in time"
        by_column = self.split if isinstance(self.split, GroupSplit | GivenSplit) else None
        if by_column is not None and by_column.column == self.ingest.label:
            yield "split.column is the target"

    def _families_in_order(self) -> Iterator[str]:
        wanted = self.families.on()
        if not wanted:
            yield f"families: all of them are {OFF}; one is needed"
        elif sorted(self.prove.prefer) != sorted(wanted):
            yield f"prove.prefer must name each family that is not off once: {', '.join(wanted)}"

    def _answers_of_the_problem(self) -> Iterator[str]:
        answer, number = self.export.answer, isinstance(self.ingest.target, RegressionTarget)
        if number and answer.operating_point:
            yield "export.answer.operating_point is for classes, the target is a number"
        if answer.interval and not number:
            yield "export.answer.interval is for numbers, the target is one of several classes"
        if answer.operating_point and self.ingest.target.problem == "multiclass":
            yield (
                "export.answer.operating_point is for two classes; of several the likeliest is told"
            )

    def section(self, stage: str, family: str | None = None) -> Section:
        """Return the section that belongs to a stage: that of a family where one is trained."""
        if stage == "train" and family is not None:
            part = getattr(self.families, family, None)
            return part if isinstance(part, Section) else self.families
        part = getattr(self, "validate_" if stage == "validate" else stage)
        assert isinstance(part, Section)
        return part


NO_PIPELINES = frozenset({"backup", "notify", "pipelines", "remote"})
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
