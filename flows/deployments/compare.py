"""Say in words how a server differs from what is declared. Pure: nothing is asked or changed."""

from collections.abc import Mapping
from dataclasses import dataclass

from flows.deployments.declared import DeclaredDeployment, Project


@dataclass(frozen=True)
class Found:
    """What a server holds of a project."""

    deployments: Mapping[str, DeclaredDeployment]
    """By full name."""
    closed: frozenset[str]
    """The deployments that refuse parameters which their flow does not have."""
    paused: frozenset[str]
    """Deployments and work pools that start nothing now."""
    pools: frozenset[str]
    automations: frozenset[str]
    """Those that are as they should be, by name."""


def differences(project: Project, found: Found, automations: frozenset[str]) -> list[str]:
    """List all that `slipway deployments apply` would change, a line each."""
    lines = [f"work pool {name}: missing" for name in project.pools if name not in found.pools]
    for wanted in project.deployments:
        name = wanted.full_name
        there = found.deployments.get(name)
        if there is None:
            lines.append(f"deployment {name}: missing")
            continue
        lines += [f"deployment {name}: {line}" for line in _fields(wanted, there)]
        if name not in found.closed:
            lines.append(f"deployment {name}: accepts parameters that its flow does not have")
    lines += [f"automation {name}: missing or changed" for name in automations - found.automations]
    return [*lines, *(f"{name}: paused" for name in sorted(found.paused))]


def _fields(wanted: DeclaredDeployment, there: DeclaredDeployment) -> list[str]:
    mine, theirs = wanted.model_dump(), there.model_dump()
    return [
        f"{field.replace('_', ' ')} is {theirs[field]}, declared is {mine[field]}"
        for field in mine
        if mine[field] != theirs[field]
    ]
