"""Say in words how a server differs from what is declared. Pure: nothing is asked or changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from flows.deployments.declared import DeclaredDeployment, DeclaredPool, Project

DEEP = "base_job_template"
"""The field that is too large to be told whole."""


@dataclass(frozen=True)
class Found:
    """What a server holds of a project."""

    deployments: Mapping[str, DeclaredDeployment]
    """By full name."""
    closed: frozenset[str]
    """The deployments that refuse parameters which their flow does not have."""
    paused: frozenset[str]
    """Deployments and work pools that start nothing now."""
    pools: Mapping[str, DeclaredPool]
    """By name."""
    automations: frozenset[str]
    """Those that are as they should be, by name."""
    stranded: tuple[str, ...] = ()
    """Runs that were asked for and wait in a work pool that was deleted: no worker sees them."""


def differences(project: Project, found: Found, automations: frozenset[str]) -> list[str]:
    """List all that `slipway deployments apply` would change, a line each."""
    lines = []
    for name, declared in project.pools.items():
        held = found.pools.get(name)
        differ = ["missing"] if held is None else _fields(declared, held)
        lines += [f"work pool {name}: {line}" for line in differ]
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
    lines += [f"flow run {name}: waits in a work pool that is gone" for name in found.stranded]
    return [*lines, *(f"{name}: paused" for name in sorted(found.paused))]


def _fields(wanted: BaseModel, there: BaseModel) -> list[str]:
    differ = _walk(wanted.model_dump(), there.model_dump(), ())
    return [
        f"{' '.join(path).replace('_', ' ')} is {theirs}, declared is {mine}"
        for path, mine, theirs in differ
    ]


def _walk(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the fields that differ, with both values; of a template, the innermost ones."""
    for key in dict.fromkeys([*mine, *theirs]):
        here, there = mine.get(key), theirs.get(key)
        if here == there:
            continue
        if isinstance(here, dict) and isinstance(there, dict) and DEEP in (*path, key):
            yield from _walk(here, there, (*path, key))
        else:
            yield (*path, key), here, there
