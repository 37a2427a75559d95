"""Trace a payload back, as far as anything is known: the content of lineage.json.

Everything in it may be shown to whoever gets the bundle: no environment, no path of this
machine, no credentials, however they came into a URL.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.make.toolchain import toolchain
from slipway.wording import scrub

Json = dict[str, Any]


@dataclass(frozen=True)
class SourceFile:
    """One file that went in."""

    url: str
    sha256: str
    size_bytes: int
    rows: int | None = None
    about: Mapping[str, str] | None = None
    """What the file says of its own making."""


def lineage(
    proof: Mapping[str, Any],
    model: str,
    sources: Mapping[str, SourceFile],
    sections: Mapping[str, Any],
    root: Path | None = None,
) -> Json:
    """Put together what leads back from a version; `sections` is what only its maker knows."""
    found = {
        "pipeline": model,
        "version": proof["version"],
        "precision": proof["precision"],
        "sources": {name: _told(source) for name, source in sources.items()},
        **sections,
        **({"proves": proof["proves"]} if "proves" in proof else {}),
        "hardware": dict(proof["hardware"]),
        "toolchain": toolchain(),
    }
    cleaned: Json = without_places(found, root)
    return cleaned


def _told(source: SourceFile) -> Json:
    return {key: value for key, value in vars(source).items() if value is not None}


def without_places(value: Any, root: Path | None) -> Any:
    """Clean every text in a JSON value: no credentials in URLs, no path of this machine."""
    if isinstance(value, Mapping):
        return {key: without_places(part, root) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(part, root) for part in value]
    return _clean(value, root) if isinstance(value, str) else value


def _clean(text: str, root: Path | None) -> str:
    """Clean one text; fsspec chains URLs with `::`, and each link may be a path."""
    if "\n" not in text:
        text = "::".join(_local(link, root) for link in text.split("::"))
    return scrub(text.replace(f"{root.resolve()}/", "") if root else text)


def _local(link: str, root: Path | None) -> str:
    """Name a local file relative to the project, or by its name alone."""
    bare = re.sub(r"^(file|local):(//)?(?=/)", "", link)
    if not bare.startswith(("/", "~")):
        return link
    path = Path(bare)
    if root is not None and path.is_relative_to(root.resolve()):
        return path.relative_to(root.resolve()).as_posix()
    return path.name
