"""Trace a payload back: commit, data, config, numbers, machine, tools.

Everything in it may be shown to whoever gets the bundle: no environment, no path of this
machine, no credentials, however they came into a URL.
"""

import importlib.metadata
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.facts import Facts, Json, read_facts, read_json
from flows.wording import scrub
from slipway import __version__
from slipway.bundle.manifest import payload_version

DISTRIBUTION = "slipway-ml"

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def lineage(
    root: Path, pipeline: str, payload: Path, proof: Mapping[str, Any], git: Mapping[str, Any]
) -> Json:
    """Gather what made a payload: the content of lineage.json."""
    facts = read_facts(root, pipeline)
    behind = f"{facts.problem.primary.key}_minus_tree"
    config = facts.config.model_dump(mode="json", by_alias=True) if facts.config else {}
    found = {
        "pipeline": pipeline,
        "version": payload_version(payload),
        "precision": proof.get("precision"),
        "git": dict(git),
        "dvc_lock": locked_outs(root, pipeline),
        "sources": _sources(root, pipeline, facts),
        "rows": _rows(facts),
        "config": config,
        "training": {
            key: facts.history.get(key)
            for key in ("best_step", "stopped", "parameters", "processes")
        },
        "metrics": {key: facts.metrics.get(key) for key in ("test", "tree", "base", behind)},
        "hardware": dict(proof.get("hardware") or {}),
        "toolchain": toolchain(),
    }
    cleaned: Json = without_places(found, root)
    return cleaned


def locked_outs(root: Path, pipeline: str) -> dict[str, dict[str, Json]]:
    """Take from dvc.lock what each stage of a pipeline wrote, with its hash."""
    try:
        lock = yaml.safe_load((root / "dvc.lock").read_text("utf-8")) or {}
    except (OSError, yaml.YAMLError):
        return {}
    ours = (f"data/{pipeline}/", f"models/{pipeline}/")
    found = {
        stage: {
            out["path"]: {key: out[key] for key in ("md5", "size", "nfiles") if key in out}
            for out in entry.get("outs") or []
            if out["path"].startswith(ours)
        }
        for stage, entry in (lock.get("stages") or {}).items()
    }
    return {stage: outs for stage, outs in found.items() if outs}


def toolchain() -> Json:
    """Name Python and the packages that Slipway asks for; the SBOM lists all that is installed."""
    return {
        "slipway": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": installed(wanted(DISTRIBUTION)),
    }


def wanted(distribution: str) -> list[str]:
    """Name the packages that a distribution asks for, those of its extras too but `dev`."""
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = {
        match[0]
        for line in lines
        if "'dev'" not in line.replace('"', "'") and (match := _NAME.match(line))
    }
    return sorted(names - {distribution})


def installed(names: Iterable[str]) -> dict[str, str]:
    """Give the version of each of these packages that is installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def without_places(value: Any, root: Path) -> Any:
    """Clean every text in a JSON value: no credentials in URLs, no path of this machine."""
    if isinstance(value, Mapping):
        return {key: without_places(part, root) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(part, root) for part in value]
    return _clean(value, root) if isinstance(value, str) else value


def _clean(text: str, root: Path) -> str:
    """Clean one text; fsspec chains URLs with `::`, and each link may be a path."""
    if "\n" not in text:
        text = "::".join(_local(link, root) for link in text.split("::"))
    return scrub(text.replace(f"{root.resolve()}/", ""))


def _local(link: str, root: Path) -> str:
    """Name a local file relative to the project, or by its name alone."""
    bare = re.sub(r"^(file|local):(//)?(?=/)", "", link)
    if not bare.startswith(("/", "~")):
        return link
    path = Path(bare)
    inside = path.is_relative_to(root.resolve())
    return path.relative_to(root.resolve()).as_posix() if inside else path.name


def _sources(root: Path, pipeline: str, facts: Facts) -> Json:
    """Join the pins (what was accepted) with the rows that were read from them."""
    pins = read_json(root / "data" / pipeline / "sources.lock")
    read = facts.table.get("sources") or {}
    return {name: {**pin, "rows": (read.get(name) or {}).get("rows")} for name, pin in pins.items()}


def _rows(facts: Facts) -> Json:
    return {
        "raw": facts.table.get("rows"),
        "valid": facts.validation.get("rows_valid"),
        "quarantined": facts.validation.get("rows_quarantined"),
        "golden": facts.golden.get("rows"),
        **(facts.features.get("rows") or {}),
    }
