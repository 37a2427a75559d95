"""Tell whether the folders of a pipeline still hold what a run left in them.

A report may be made again long after, when other runs have written there: their numbers on
this run's page would be a lie, and a missing section is none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slipway.bundle.format import short
from slipway.bundle.manifest import payload_version
from slipway.errors import SlipwayError
from slipway.runs.inputs import file_sha256
from slipway.runs.run import Run, StageOutcome
from tasks import sums


@dataclass(frozen=True)
class Changed:
    """What is no longer as the run left it."""

    stages: tuple[str, ...] = ()
    """By name: of no file of theirs can anything be said."""
    config: bool = False
    unknown: tuple[str, ...] = ()
    """Stages of which the record does not say what they left: of an older slipway."""
    version: str | None = None
    """The payload that is there now, where it is another one than the run's."""

    @property
    def sentence(self) -> str:
        """Say it in one paragraph; empty when nothing is in doubt."""
        parts = []
        if self.stages:
            now = f" (the payload there is now v{short(self.version)})" if self.version else ""
            parts.append(
                f"By now the folders of {', '.join(self.stages)} hold what another run"
                f" left{now}: what this run read from them cannot be shown any more."
            )
        elif self.version:
            parts.append(f"The payload on the disk is by now v{short(self.version)}.")
        if self.unknown:
            parts.append(
                f"The record does not say what {', '.join(self.unknown)} left: their numbers are"
                " those of the files as they are now."
            )
        if self.config:
            parts.append("The config has been edited since.")
        return " ".join(parts)


UNCHANGED = Changed()


def changed_since(root: Path, run: Run) -> Changed:
    """Compare the seals of all outputs, and the config, with those that the run noted."""
    done = [stage for stage in run.stages if stage.state in ("ran", "skipped")]
    config = root / "configs" / f"{run.pipeline}.yaml"
    noted = run.inputs.config_sha256
    return Changed(
        stages=_names(s for s in done if s.outs and sums.seals(_folders(s), root) != s.outs),
        config=noted is not None and noted != file_sha256(config),
        unknown=_names(stage for stage in done if not stage.outs),
        version=_other_version(root, run),
    )


def _folders(stage: StageOutcome) -> list[Path]:
    return [Path(out) for out in stage.outs]


def _names(stages: Iterable[StageOutcome]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(stage.name for stage in stages))


def _other_version(root: Path, run: Run) -> str | None:
    if run.version is None:
        return None
    try:
        found = payload_version(root / "models" / run.pipeline / "payload")
    except (OSError, SlipwayError):
        return None
    return None if found == run.version else found
