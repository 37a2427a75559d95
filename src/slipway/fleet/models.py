"""Say how a model is released: a pipeline of this project, or one that was made elsewhere."""

from pathlib import Path
from typing import Final

from slipway.config import ReleaseConfig, ReleaseLimits, load_config, pipelines
from slipway.errors import ConfigError
from slipway.problem import PROBLEMS
from slipway.sections import parse, suggest
from slipway.store.channel import models
from slipway.store.objects import Store

LOSS_MAX: Final = 0.01
"""How much worse than stable a model may be of which no config says more: a hundredth."""

MADE_ELSEWHERE: Final = ReleaseConfig(
    percent=20,
    lease_s=15,
    requests=100,
    rows_per_request=20,
    wait_s=300,  # nobody knows how large it is, and the wait ends when the hosts have it
    limits=ReleaseLimits(
        error_share_rise_max=0.0,
        quality={each.key: LOSS_MAX for problem in PROBLEMS.values() for each in problem.gated},
        p99_ratio_max=3.0,
        p99_slack_ms=20.0,
    ),
)
"""How a model is released that has no `configs/<model>.yaml`, unless a file says otherwise."""


def find_release_config(
    root: Path, model: str, store: Store, limits: Path | None = None
) -> ReleaseConfig:
    """Return the section `release` of a pipeline's config, or that of a model of the store.

    `limits` is a file that holds such a section; a pipeline has its own.
    """
    if model in (known := pipelines(root)):
        if limits is not None:
            where = f"the limits of pipeline {model} are in configs/{model}.yaml, section release"
            raise ConfigError("the command line", [f"--limits: {where}"])
        return load_config(root, model).release
    if model not in (pushed := store.names("bundles")):
        raise ConfigError("the command line", [_unknown(model, known, pushed, store)])
    return MADE_ELSEWHERE if limits is None else parse(ReleaseConfig, limits, root)


def check_released(root: Path, model: str, store: Store, fleet: str) -> None:
    """Raise ConfigError for a name that is neither a pipeline nor a model released on a fleet.

    Reads no config and no bundle: a rollback works whatever has become of them.
    """
    known, released = pipelines(root), models(store, fleet)
    if model not in (*known, *released):
        raise ConfigError("the command line", [_unknown(model, known, released, store)])


def _unknown(model: str, known: list[str], stored: list[str], store: Store) -> str:
    elsewhere = [name for name in stored if name not in known]
    return (
        f"unknown pipeline {model!r}{suggest(model, [*known, *elsewhere])}; there is:"
        f" {', '.join(known) or 'none'}; models of {store.url} without one:"
        f" {', '.join(elsewhere) or 'none'}"
    )
