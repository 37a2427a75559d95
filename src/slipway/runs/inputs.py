"""What goes into a run, kept in its record: config, source pins, locked libraries.

Written down at the start and whole, so that two runs can be compared after the config was
edited, the lock renewed and the commit forgotten.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.config import load_config
from slipway.errors import ConfigError
from slipway.runs.parsing import parse
from slipway.wording import scrub

LOCK = "requirements.lock"

_LOCKED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*==\s*([^\s;#\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class SourcePin:
    """A source as it was accepted; `rows` once ingest has counted them."""

    url: str = ""
    sha256: str = ""
    size_bytes: int | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Inputs:
    """All that decides the bytes of a run beside its code."""

    config_sha256: str | None = None
    """Of configs/<pipeline>.yaml as it stands on the disk."""
    config: dict[str, Any] = field(default_factory=dict)
    """Every value by its dotted name: `train.epochs`."""
    sources: dict[str, SourcePin] = field(default_factory=dict)
    requirements_sha256: str | None = None
    libraries: dict[str, str] = field(default_factory=dict)
    """Locked versions by name, as PyPI compares names."""


def read_inputs(root: Path, pipeline: str) -> Inputs:
    """Read what is there now; what cannot be read is not in it, and no reason to stop."""
    config, lock = root / "configs" / f"{pipeline}.yaml", root / LOCK
    return Inputs(
        config_sha256=file_sha256(config),
        config=_config(root, pipeline),
        sources=_pins(root / "data" / pipeline / "sources.lock"),
        requirements_sha256=file_sha256(lock),
        libraries=_libraries(lock),
    )


def flat(value: Mapping[str, Any]) -> dict[str, Any]:
    """Name every value by its path, and take credentials out of the URLs among them."""
    return {name: _scrubbed(part) for name, part in _leaves(value, "")}


def file_sha256(path: Path) -> str | None:
    """Return the digest of a file, None where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _leaves(value: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        name = f"{above}{key}"
        if isinstance(part, Mapping) and part:
            yield from _leaves(part, f"{name}.")
        else:
            yield name, part


def _scrubbed(value: Any) -> Any:
    if isinstance(value, list):
        return [_scrubbed(part) for part in value]
    return scrub(value) if isinstance(value, str) else value


def _config(root: Path, pipeline: str) -> dict[str, Any]:
    try:
        return flat(load_config(root, pipeline).model_dump(mode="json", by_alias=True))
    except (ConfigError, OSError):
        return {}


def _pins(path: Path) -> dict[str, SourcePin]:
    try:
        pins = json.loads(path.read_text("utf-8"))
        found = {name: parse(SourcePin, pin) for name, pin in pins.items()}
    except (OSError, ValueError, AttributeError):
        return {}
    return {
        name: SourcePin(scrub(pin.url), pin.sha256, pin.size_bytes) for name, pin in found.items()
    }


def _libraries(path: Path) -> dict[str, str]:
    try:
        found = _LOCKED.findall(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}
