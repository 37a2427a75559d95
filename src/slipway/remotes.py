"""What a project says of the places that its work is shared through (`configs/remote.yaml`).

Where data and models go to is DVC's to know (`dvc remote add --default`); this says the rest.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from slipway.sections import Section, parse

CONFIG = Path("configs/remote.yaml")


class RemoteConfig(Section):
    """What runs bring elsewhere."""

    format: Literal[1]
    """The form of this file."""
    push: bool = True
    """Push what stages made to DVC's default remote; what is missing is fetched in any case."""
    git: str | None = None
    """The git remote that `slipway/main` is pushed to, and taken from where a run starts."""
    checkpoints: str | None = None
    """Where a training's checkpoints go as well: any URL that a store may have."""
    checkpoints_every_s: Annotated[float, Field(ge=0)] = 60.0
    """At most so often; the last one, when a training is told to stop, always goes."""


DEFAULT = RemoteConfig(format=1)


def load_remote_config(root: Path) -> RemoteConfig:
    """Read the config; the defaults where the project has none. Raise ConfigError if wrong."""
    path = root / CONFIG
    return parse(RemoteConfig, path, root) if path.exists() else DEFAULT
