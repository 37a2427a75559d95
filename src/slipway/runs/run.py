"""What a run did: the content of `.slipway/runs/<id>/run.json`.

Every part has a default, so that a record of another version, or of a run that came to
nothing, is read as far as it goes (`runs.parsing`).
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from slipway.processes.marks import ProcessMark
from slipway.runs.git import NOT_ASKED, GitState
from slipway.runs.inputs import Inputs
from slipway.runs.usage import NOT_MEASURED, StageUsage

RunState = Literal["running", "completed", "failed", "interrupted"]

DVC_REPRO = "dvc repro"


@dataclass(frozen=True)
class StartedBy:
    """What set a run off."""

    kind: str = ""
    """`terminal`, `schedule`, `trigger` or `dvc repro`."""
    who: str = ""
    """A person as user@host, or a Prefect deployment and its flow run."""


@dataclass(frozen=True)
class StageOutcome:
    """What became of one stage."""

    stage: str = "?"
    """DVC's name for it: `quantize@flights-int8-static`."""
    state: str = "?"
    """`not run`, `running`, `ran`, `skipped`, `failed` or `stopped`."""
    why: tuple[str, ...] = ()
    """What made it stale; nothing where only its outputs were not what they had been."""
    from_cache: bool = False
    """Skipped, as DVC's run-cache held the result of these inputs."""
    started_at: str | None = None
    seconds: float | None = None
    exit: str | None = None
    """How its process ended, in words: its exit code or the signal; None if none was seen."""
    error: str | None = None
    """The stage's own message."""
    usage: StageUsage = NOT_MEASURED
    outs: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of each output's seal: tells whether a folder still holds what this run had."""

    @property
    def name(self) -> str:
        """Its name without the pipeline: `quantize`."""
        return self.stage.partition("@")[0]

    def to_dict(self) -> dict[str, Any]:
        """Return what there is to say, in the form of run.json."""
        found = asdict(self) | {"usage": self.usage.to_dict()}
        return {key: value for key, value in found.items() if not _says_nothing(value)}


def _says_nothing(value: Any) -> bool:
    """Tell what was not known, or is the usual; a zero says something."""
    return value is None or value is False or value == () or value == {}


@dataclass(frozen=True)
class GateResult:
    """One measure of one precision, and what it was held to."""

    gate: str = "?"
    measured: float | None = None
    limit: float | None = None
    bound: str = ""
    verdict: str = "?"
    precision: str = ""


@dataclass(frozen=True)
class HostAddress:
    """Where a host of the fleet is asked."""

    name: str = ""
    url: str = ""


@dataclass(frozen=True)
class ReleaseResult:
    """What the release did, as slipway.fleet.release tells it."""

    model: str | None = None
    fleet: str | None = None
    version: str | None = None
    previous: str | None = None
    decision: str = ""
    reason: str = ""
    serial: int | None = None
    started_at: str | None = None
    seconds: float | None = None
    hosts: tuple[HostAddress, ...] = ()
    steps: tuple[str, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)
    """All that was measured; flows.report reads what it knows of it."""


@dataclass(frozen=True)
class Notice:
    """One person or program that was to be told how a run ended."""

    reason: str = ""
    """`crashed`, `failed`, `rejected` or `waiting`."""
    target: str = ""
    """Who, without anything secret."""
    sent: bool = False
    tries: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Run:
    """What a run did so far: the content of run.json."""

    run: str = ""
    """Its id; ids sort by time."""
    pipeline: str = ""
    fleet: str | None = None
    started_by: StartedBy = StartedBy()
    started_at: str = ""
    state: str = ""
    finished_at: str | None = None
    stages: tuple[StageOutcome, ...] = ()
    """Under `dvc repro` those that ran: what DVC skipped, it skipped without a word."""
    version: str | None = None
    precision: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    """The model's own on the test rows."""
    gates: tuple[GateResult, ...] = ()
    published: str | None = None
    """What publishing did: `new` or `kept`, None when it was not reached."""
    remote: str | None = None
    """What was pushed to DVC's default remote, or why not; None where there is none."""
    release: ReleaseResult | None = None
    hosts: tuple[HostAddress, ...] = ()
    git: GitState = NOT_ASKED
    inputs: Inputs = field(default_factory=Inputs)
    """What went in, kept so that runs can be compared long after."""
    process: ProcessMark | None = None
    """Whose end ends the run: with it gone, a run that says `running` was interrupted."""
    prefect_flow_run: str | None = None
    """The run's id on the Prefect server, None outside of Prefect."""
    environment: tuple[str, ...] = ()
    """How what was installed differs from requirements.lock."""
    error: str | None = None
    notices: tuple[Notice, ...] = ()
    """Who was told of its end."""

    @property
    def subject(self) -> str:
        """Name the run and what it made in one line."""
        made = f"{self.pipeline} v{self.version[:12]}" if self.version else self.pipeline
        return f"Run {self.run}: {made}"

    def facts(self) -> list[str]:
        """List what it measured, a line each."""
        metrics = [f"{name} {value:.6g}" for name, value in self.metrics.items()]
        return metrics + [f"{g.precision} {g.gate} {g.measured} {g.verdict}" for g in self.gates]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of run.json."""
        return asdict(self) | {
            "stages": [stage.to_dict() for stage in self.stages],
            "git": self.git.to_dict(),
        }
