"""Read what prefect.yaml declares, in the form in which a server can be asked for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.errors import ConfigError

FILE = "prefect.yaml"
POOLS = Path("configs/pools")
"""Where work pools are described, each in a file of its name."""

M = TypeVar("M", bound=BaseModel)


class Schedule(BaseModel):
    """When runs start by themselves."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cron: str
    timezone: str = "UTC"
    active: bool = True


class Trigger(BaseModel):
    """Which events start a run."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    expect: list[str] = Field(default_factory=list)
    match: dict[str, str] = Field(default_factory=dict)


class ConcurrencyLimit(BaseModel):
    """How many runs at once, and what becomes of more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    limit: int
    collision_strategy: str = "ENQUEUE"


class _PoolName(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    job_variables: dict[str, Any] = Field(default_factory=dict)


class BaseJobTemplate(BaseModel):
    """What a worker starts for each run, in Prefect's form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_configuration: dict[str, Any]
    """What the worker is given; `{{ NAME }}` stands for a variable."""
    variables: dict[str, Any]
    """The variables, as a JSON schema: their defaults, and what deployments may set."""


class DeclaredPool(BaseModel):
    """One work pool, as its file in configs/pools describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    type: str
    """The kind of worker that it is for: `process`, `kubernetes`."""
    description: str = ""
    concurrency_limit: int | None = Field(default=None, ge=1)
    """How many runs its workers start at once, all together; left out, as many as there are."""
    base_job_template: BaseJobTemplate


class DeclaredDeployment(BaseModel):
    """One deployment, as prefect.yaml declares it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    entrypoint: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: list[Schedule] = Field(default_factory=list)
    triggers: list[Trigger] = Field(default_factory=list)
    concurrency_limit: ConcurrencyLimit | None = None
    work_pool: _PoolName
    pull: list[dict[str, Any]] = Field(default_factory=list)
    """What a run does first; that of the whole file where a deployment has none of its own."""

    @property
    def flow(self) -> str:
        """The name of its flow."""
        return self.entrypoint.rpartition(":")[2]

    @property
    def full_name(self) -> str:
        """The name that the server knows it by."""
        return f"{self.flow}/{self.name}"


@dataclass(frozen=True)
class Project:
    """All that a project declares."""

    deployments: tuple[DeclaredDeployment, ...]
    pools: dict[str, DeclaredPool]
    """Those that the deployments name."""

    @property
    def flows(self) -> list[str]:
        """The flows whose runs somebody has to look after."""
        return sorted({deployment.flow for deployment in self.deployments})


class _File(BaseModel):
    pull: list[dict[str, Any]] = Field(default_factory=list)
    deployments: list[DeclaredDeployment] = Field(default_factory=list)


def read(root: Path) -> Project:
    """Read prefect.yaml and the pools that it names; raise ConfigError with what is wrong there."""
    if not (root / FILE).is_file():
        raise ConfigError("the command line", [f"{root} has no {FILE}"])
    found = _read(root, Path(FILE), _File)
    if not found.deployments:
        raise ConfigError(FILE, ["it declares no deployments"])
    deployments = tuple(
        each if each.pull else each.model_copy(update={"pull": found.pull})
        for each in found.deployments
    )
    named = sorted({deployment.work_pool.name for deployment in deployments})
    return Project(deployments, {name: read_pool(root, name) for name in named})


def read_pool(root: Path, name: str) -> DeclaredPool:
    """Read a work pool's file; raise ConfigError where it is missing or wrong."""
    path = POOLS / f"{name}.yaml"
    if not (root / path).is_file():
        there = ", ".join(sorted(each.stem for each in (root / POOLS).glob("*.yaml"))) or "none"
        problem = f"work pool {name!r} needs {path}, which is not there; described are: {there}"
        raise ConfigError(FILE, [problem])
    return _read(root, path, DeclaredPool)


def _read(root: Path, path: Path, form: type[M]) -> M:
    try:
        return form.model_validate(yaml.safe_load((root / path).read_text("utf-8")) or {})
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [" ".join(str(error).split())]) from None
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(str(path), problems) from None
