"""Say why stages would run: what changed since their entries in dvc.lock, from what to what.

DVC's own status names what changed and no more. Everything here is read; nothing is written.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from flows.dag import opening, seals, stages
from slipway.runs.git import last_change

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

PIN = "sources.lock"
"""What a pipeline's first stage reads; git has it from the first run on."""

DIGEST_SHOWN = 8
"""Hex digits of a digest that people tell two files apart by."""

Kind = Literal["entry", "always", "command", "parameter", "dependency", "output"]

Verdict = Literal["up to date", "would run", "would be restored", "would be asked again"]


@dataclass(frozen=True)
class Change:
    """One thing that is not as dvc.lock has it."""

    kind: Kind
    name: str
    """`train.epochs`, `tasks/train`, `models/flights/weights`; of a command, the stage's."""
    old: Any = None
    """A parameter's value, a command, or the first digits of a digest; None: there was none."""
    new: Any = None
    """The same of now; None: there is none."""
    made_by: str | None = None
    """The stage that makes a file, None of what people write."""
    note: str = ""
    """What is known beside it: the commit that changed a file last, or how an output differs."""


@dataclass(frozen=True)
class Explanation:
    """Why one stage would run, or why not."""

    stage: str
    title: str
    changes: tuple[Change, ...] = ()
    """What makes it run by itself."""
    upstream: tuple[str, ...] = ()
    """The stages that it reads from, and that would run or be asked again."""
    in_run_cache: bool | None = None
    """Whether it ran on these inputs before; None where upstream has to be known first."""

    @property
    def verdict(self) -> Verdict:
        """What a run would do with it."""
        if self.in_run_cache:
            return "would be restored"
        if self.changes:
            return "would run"
        return "would be asked again" if self.upstream else "up to date"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"verdict": self.verdict, **asdict(self)}


def explain(root: Path, pipeline: str) -> list[Explanation]:
    """Explain every stage of a pipeline, inputs first."""
    return opening.patiently(lambda: _explain(root, pipeline))


def _explain(root: Path, pipeline: str) -> list[Explanation]:
    with stages.opened(root, pipeline) as (repo, chosen):
        made = {out.def_path: stage.name for stage in chosen for out in stage.outs}
        known = {stage.name: stages.describe(repo, stage, pipeline) for stage in chosen}
        found = []
        for stage in chosen:
            changes = tuple(_changes(root, stage, made))
            damaged = [] if changes else seals.damage(root, known[stage.name].outs)
            why = changes or tuple(_damage(known[stage.name].outs, damaged))
            explained = Explanation(stage.name, known[stage.name].title, why)
            found.append((explained, not damaged and bool(why) and _in_run_cache(repo, stage, why)))
    upstream = {address: stage.upstream for address, stage in known.items()}
    return follow(
        [replace(explained, in_run_cache=cached) for explained, cached in found], upstream
    )


def follow(found: list[Explanation], upstream: Mapping[str, tuple[str, ...]]) -> list[Explanation]:
    """Add what would run only because a stage before it would; inputs come first."""
    moved: dict[str, Explanation] = {}
    for explained in found:
        before = tuple(address for address in upstream[explained.stage] if address in moved)
        if before:
            # what a stage will make anew is no news of this one
            changes = tuple(each for each in explained.changes if each.made_by not in before)
            explained = replace(explained, changes=changes, upstream=before, in_run_cache=None)
        if explained.changes or before:
            moved[explained.stage] = explained
    return [
        moved.get(explained.stage, replace(explained, in_run_cache=None)) for explained in found
    ]


def differing(name: str, old: Any, new: Any) -> Iterator[Change]:
    """Go down into a section to the values that changed."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        if old != new:
            yield Change("parameter", name, old, new)
        return
    for key in dict.fromkeys([*new, *old]):  # the config's order, as people know it
        yield from differing(f"{name}.{key}", old.get(key), new.get(key))


def _changes(root: Path, stage: "PipelineStage", made: Mapping[str, str]) -> Iterator[Change]:
    if not any(out.hash_info for out in [*stage.deps, *stage.outs]):
        yield Change("entry", "dvc.lock", note="has no entry of this stage: it never ran")
        yield from (
            Change("dependency", dep.def_path, note=_absence(dep.def_path))
            for dep in stage.deps
            if dep.def_path not in made and not (root / dep.def_path).exists()
        )
        return
    if stage.always_changed:
        yield Change("always", "dvc.yaml", note="says always_changed")
    if stage.cmd_changed:
        yield Change("command", stage.name, _locked_command(root, stage.name), stage.cmd)
    for dep in stage.deps:
        if dep.status():
            yield from _dependency(root, dep, made)
    for out in stage.outs:
        for how in out.status().values():
            yield Change("output", out.def_path, *_digests(out), note=how)


def _absence(name: str) -> str:
    """Say of a file that is not there who writes it; DVC says no more than [Errno 2]."""
    if Path(name).name == PIN:
        pipeline = Path(name).parent.name
        return f"is missing: it pins the sources, and `slipway build {pipeline}` writes it"
    return "is missing"


def _dependency(root: Path, dep: Any, made: Mapping[str, str]) -> Iterator[Change]:
    """Tell of parameters by their values, of files by their digests and their last commit."""
    if hasattr(dep, "read_params"):
        old, new = dep.hash_info.value or {}, dep.read_params()
        for section in dict.fromkeys([*new, *old]):
            yield from differing(section, old.get(section), new.get(section))
        return
    maker = made.get(dep.def_path)
    there = (root / dep.def_path).exists()
    note = "" if maker else _last_change(root, dep.def_path) if there else _absence(dep.def_path)
    yield Change("dependency", dep.def_path, *_digests(dep), made_by=maker, note=note)


def _digests(output: Any) -> tuple[str | None, str | None]:
    old = output.hash_info.value
    new = output.get_hash().value if output.exists else None
    return _shown(old), _shown(new)


def _shown(digest: str | None) -> str | None:
    return digest[:DIGEST_SHOWN] if digest else None


def _damage(outs: tuple[Path, ...], damaged: list[str]) -> Iterator[Change]:
    where = ", ".join(map(str, outs))
    yield from (Change("output", where, note=how) for how in damaged)


def _in_run_cache(repo: "Repo", stage: "PipelineStage", why: tuple[Change, ...]) -> bool:
    """Ask DVC, dry, for the result of these inputs; the stage's objects are not used after."""
    from dvc.exceptions import DvcException

    try:
        with chdir(repo.root_dir), _silent_dvc():  # DVC 3.67 looks for dvc.yaml here
            if any(change.kind != "output" for change in why):
                stage.save_deps()
                stage.cmd_changed = True  # or dvc.lock's outputs would be taken for the result
            repo.stage_cache.restore(stage, dry=True)
    except DvcException:
        return False
    return True


@contextmanager
def _silent_dvc() -> Iterator[None]:
    """Keep off stdout that DVC takes a stage from its cache, which it does not, dry."""
    log = logging.getLogger("dvc")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def _locked_command(root: Path, address: str) -> str | None:
    lock = yaml.safe_load((root / "dvc.lock").read_text("utf-8"))
    command = lock["stages"][address].get("cmd")
    return str(command) if command is not None else None


@cache
def _last_change(root: Path, name: str) -> str:
    """Ask git once for each file: the lock is read by every stage."""
    return last_change(root, name)
