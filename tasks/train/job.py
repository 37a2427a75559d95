"""What one training is to do: written by the stage, read by every rank."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from slipway.settings.families import NetworkConfig


class TrainingJob(BaseModel):
    """One training: what it learns from, and where its results go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: NetworkConfig
    family: str
    """The family to build, by its name in `tasks.models`."""
    prepared: Path
    weights: Path
    report: Path
    checkpoints: Path


def write_job(path: Path, job: TrainingJob) -> None:
    """Write a job for the ranks."""
    path.write_text(job.model_dump_json(), "utf-8")


def read_job(path: Path) -> TrainingJob:
    """Read what `write_job` wrote."""
    return TrainingJob.model_validate_json(path.read_bytes())
