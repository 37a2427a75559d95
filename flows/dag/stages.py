"""Read the DAG of dvc.yaml through DVC: a pipeline's stages, their order, and which are stale.

DVC decides whether a stage runs; this only asks it, once per run, so that the flow knows what
to start side by side and what to report as unchanged.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows.dag import opening
from slipway.errors import ConfigError
from tasks.reasons import reasons
from tasks.timeouts import timeout_of

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import PipelineStage


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline, as dvc.yaml and dvc.lock have it now."""

    address: str
    """DVC's name for it: `quantize@flights-int8-static`."""
    title: str
    """The name for people, who know which pipeline they run: `quantize int8-static`."""
    upstream: tuple[str, ...]
    """The addresses of the stages whose outputs it reads."""
    alone: bool
    """`meta: {alone: true}`: measures time, so nothing may run beside it."""
    stale: tuple[str, ...]
    """What changed since it ran last; empty when nothing did."""
    outs: tuple[Path, ...] = ()
    """The folders that it writes, relative to the project."""
    grace_s: float = 0.0
    """`meta: {grace_s: 30}`: what it may take to save its work when it is told to stop."""
    timeout_s: float | None = None
    """`meta: {timeout_s: 3600}`: what it may take in all, from DVC's start to its end."""


def require(root: Path, pipeline: str) -> None:
    """Refuse a pipeline that dvc.yaml does not name, before anything is changed.

    Reads the names only: a dvc.lock that was cut off is for the run to set right.
    """
    from dvc.dvcfile import ProjectFile

    with opening.opened(root) as repo:
        names = ProjectFile(repo, str(root / "dvc.yaml")).resolver.get_keys()
        if not any(name.partition("@")[2] == pipeline for name in names):
            raise _unnamed(pipeline)


def read_stages(root: Path, pipeline: str) -> list[Stage]:
    """List a pipeline's stages, inputs first, with what makes each stale."""

    def read() -> list[Stage]:
        with opened(root, pipeline) as (repo, chosen):
            described = [(stage, describe(repo, stage, pipeline)) for stage in chosen]
            return [replace(found, stale=tuple(_stale(stage))) for stage, found in described]

    return opening.patiently(read)


@contextmanager
def opened(root: Path, pipeline: str) -> Iterator[tuple["Repo", list["PipelineStage"]]]:
    """Open the project with DVC, locked for reading; yield a pipeline's stages, inputs first.

    Nothing is read before it is locked: a `dvc repro` beside writes dvc.lock in place.
    """
    with opening.opened(root) as repo, opening.locked(repo):
        chosen = _stages_of(repo, pipeline)
        yield repo, [stage for stage in _in_order(repo) if stage in chosen]


def longest_grace(root: Path) -> float:
    """Return the most seconds that a stage of this project may take to save its work."""
    declared = yaml.safe_load((root / "dvc.yaml").read_text("utf-8"))["stages"].values()
    metas = ((stage.get("do") or stage).get("meta") or {} for stage in declared)
    return max((float(meta.get("grace_s", 0.0)) for meta in metas), default=0.0)


def restore(root: Path, pipeline: str) -> None:
    """Bring in what dvc.lock says of a pipeline from the cache, as far as it is there."""
    with opening.opened(root) as repo:
        with opening.locked(repo):  # whoever has it now is waited for, and told of
            targets = [stage.name for stage in _stages_of(repo, pipeline)]
        repo.checkout(targets=targets, force=True, allow_missing=True)


def to_run(stages: list[Stage]) -> list[Stage]:
    """Return the stale stages and all that read from them, in order."""
    chosen: set[str] = set()
    for stage in stages:
        if stage.stale or chosen.intersection(stage.upstream):
            chosen.add(stage.address)
    return [stage for stage in stages if stage.address in chosen]


def wait_for(stages: list[Stage]) -> dict[str, set[str]]:
    """Say which of these stages each one has to wait for.

    Its inputs; and a stage that measures time also waits for every stage that does not read
    from it, and these never start beside it.
    """
    before = {stage.address: set(stage.upstream) for stage in stages}
    for address, upstream in before.items():
        before[address] = upstream & before.keys()
    for stage in stages:
        if stage.alone:
            after = _downstream(stage.address, before) | {stage.address}
            before[stage.address] = before.keys() - after
    return before


def put_in_order(root: Path) -> None:
    """Order the entries of dvc.lock as `dvc repro` would have written them.

    DVC appends a stage when it is done, so stages that ran side by side would otherwise
    leave another file than a bare `dvc repro` does.
    """
    from dvc.utils.serialize import dump_yaml, load_yaml

    path, aside = root / "dvc.lock", root / ".slipway/dvc.lock.new"
    with opening.opened(root) as repo, opening.locked(repo):
        if not path.is_file():
            return
        content = load_yaml(str(path))
        entries = content["stages"]
        order = [stage.name for stage in _in_order(repo) if stage.name in entries]
        order += [name for name in entries if name not in order]
        if order == list(entries):
            return
        content["stages"] = {name: entries[name] for name in order}
        dump_yaml(str(aside), content)
        os.replace(aside, path)


def _in_order(repo: "Repo") -> list["PipelineStage"]:
    """List all stages in the order in which `dvc repro` visits them."""
    from dvc.repo.reproduce import get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    return [stage for stage in plan_repro(graph) if _named(stage)]


def _named(stage: Any) -> bool:
    """Tell a stage of the DAG from a file that DVC merely tracks."""
    return bool(getattr(stage, "name", None))


def _stages_of(repo: "Repo", pipeline: str) -> set["PipelineStage"]:
    """Collect the stages `*@pipeline` and all that they read from.

    A branch of a matrix (`quantize@flights-int8-static`) could by its name as well belong to
    a pipeline `flights-int8`; that it is read by a stage of this one leaves no doubt.
    """
    import networkx as nx

    graph = repo.index.graph
    named = {s for s in graph if _named(s) and s.name.partition("@")[2] == pipeline}
    if not named:
        raise _unnamed(pipeline)
    return named.union(*(nx.descendants(graph, stage) for stage in named))


def _unnamed(pipeline: str) -> ConfigError:
    problem = f"no stage of pipeline {pipeline!r}; add it to configs/pipelines.yaml"
    return ConfigError("dvc.yaml", [problem])


def describe(repo: "Repo", stage: "PipelineStage", pipeline: str) -> Stage:
    """Return what dvc.yaml says of a stage; whether it is stale costs more, and is not asked."""
    meta = stage.meta or {}
    name, _, rest = stage.name.partition("@")
    return Stage(
        address=stage.name,  # not `addressing`, which depends on the current folder
        title=f"{name} {rest.removeprefix(pipeline).removeprefix('-')}".strip(),
        upstream=tuple(
            sorted(read.name for read in repo.index.graph.successors(stage) if _named(read))
        ),
        grace_s=float(meta.get("grace_s", 0.0)),
        timeout_s=timeout_of(stage.name, meta),
        alone=bool(meta.get("alone")),
        stale=(),
        outs=tuple(Path(out.def_path) for out in stage.outs),
    )


def _stale(stage: "PipelineStage") -> Iterator[str]:
    return reasons(entry for entries in stage.status().values() for entry in entries)


def _downstream(address: str, before: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    while more := {a for a, wanted in before.items() if wanted & (found | {address})} - found:
        found |= more
    return found
