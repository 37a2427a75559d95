"""Read what prefect.yaml declares, in the form in which a server can be asked for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.errors import ConfigError

FILE = "prefect.yaml"


class Schedule(BaseModel):
    """When runs start by themselves."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cron: str
    timezone: str = "UTC"


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


class _Pool(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str


class DeclaredDeployment(BaseModel):
    """One deployment, as prefect.yaml declares it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    entrypoint: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: list[Schedule] = Field(default_factory=list)
    triggers: list[Trigger] = Field(default_factory=list)
    concurrency_limit: ConcurrencyLimit | None = None
    work_pool: _Pool

    @property
    def full_name(self) -> str:
        """The name that the server knows it by: that of its flow before its own."""
        return f"{self.entrypoint.rpartition(':')[2]}/{self.name}"


@dataclass(frozen=True)
class Project:
    """All that a project declares."""

    deployments: tuple[DeclaredDeployment, ...]

    @property
    def pools(self) -> list[str]:
        """The work pools that are needed."""
        return sorted({deployment.work_pool.name for deployment in self.deployments})


class _File(BaseModel):
    deployments: list[DeclaredDeployment] = Field(default_factory=list)


def read(root: Path) -> Project:
    """Read a project's prefect.yaml; raise ConfigError with every problem in it."""
    path = root / FILE
    try:
        found = _File.model_validate(yaml.safe_load(path.read_text("utf-8")) or {})
    except FileNotFoundError:
        raise ConfigError("the command line", [f"{root} has no {FILE}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError(FILE, [" ".join(str(error).split())]) from None
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(FILE, problems) from None
    if not found.deployments:
        raise ConfigError(FILE, ["it declares no deployments"])
    return Project(tuple(found.deployments))
