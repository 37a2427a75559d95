"""What accepted data looks like: `data/<pipeline>/accepted.json`, in git beside the source pin.

Small, and the same for the same bytes. It holds counts, ranges and frequent values, but no value
of a text column that fewer than `RARE` rows share: what is private of a person is rarely shared.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slipway.bundle.format import write_durably
from slipway.errors import SlipwayError

FORMAT = 1
RARE = 10
"""A value that fewer rows than these have is not written down."""

Bound = int | float | str
"""A number, or a time in ISO 8601."""


@dataclass(frozen=True)
class ColumnProfile:
    """One column that is read."""

    type: str
    """As the file has it where it says so (Parquet), else as the config reads it."""
    nulls: int
    """Rows without a value; NaN is none."""
    low: Bound | None = None
    high: Bound | None = None
    distinct: int | None = None
    """How many values a column of texts or truth values has; None: numbers, or too many."""
    frequent: Mapping[str, int] = field(default_factory=dict)
    """The most frequent of them with their rows."""


@dataclass(frozen=True)
class SourceProfile:
    """One source as it was read."""

    sha256: str
    size_bytes: int
    rows: int | None
    """None where it could not be read as the config says."""
    reads: Mapping[str, str]
    """The columns that the config reads, and as what."""
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    """Columns that the file has besides, with their types where it says so."""


def path_of(root: Path, pipeline: str) -> Path:
    """Name the file that holds the profile of what was accepted last."""
    return root / "data" / pipeline / "accepted.json"


def read_profiles(path: Path) -> dict[str, SourceProfile] | None:
    """Read the profiles by source; None where there are none yet."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, expected {FORMAT}")
        return {name: _source(entry) for name, entry in content["sources"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SlipwayError(
            f"{path} is no profile of accepted data ({type(error).__name__}: {error}); get it back"
            f" from git (git checkout {path}), or remove it to accept the data as it is now"
        ) from None


def write_profiles(path: Path, profiles: Mapping[str, SourceProfile]) -> None:
    """Write the profiles whole or not at all."""
    sources = {name: _plain(asdict(profile)) for name, profile in profiles.items()}
    text = json.dumps(
        {"format": FORMAT, "sources": sources}, indent=1, sort_keys=True, allow_nan=False
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, f"{text}\n".encode())


def _source(entry: Mapping[str, Any]) -> SourceProfile:
    columns = {name: _column(column) for name, column in entry["columns"].items()}
    return SourceProfile(**{**entry, "columns": columns})


def _column(entry: Mapping[str, Any]) -> ColumnProfile:
    return ColumnProfile(**{**entry, "low": _bound(entry["low"]), "high": _bound(entry["high"])})


def _bound(value: Bound | None) -> Bound | None:
    """Read what JSON has no number for back from its name; times stay texts."""
    return float(value) if value in ("inf", "-inf") else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return str(value) if isinstance(value, float) and math.isinf(value) else value
