"""Expectation suites: Great Expectations' own JSON, checked before it sees it.

Great Expectations imports whatever module a suite names. So a suite may hold expectations of
its public gallery with plain values, each marked as a rule for single rows (`"level": "row"`:
rows that break it are set aside) or for the table (`"level": "suite"`: it stops the line).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import ConfigError

LEVELS = ("row", "suite")

COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list")
"""Where a rule names the columns whose values it is about."""

FILLED_IN = re.compile(r"\$(\{|[A-Za-z_])")
"""What Great Expectations would fill in: `$PARAMETER` and `${VARIABLE}`. A `$` that ends a
regular expression is none."""


@dataclass(frozen=True)
class Rule:
    """One expectation of a suite."""

    kind: str
    kwargs: dict[str, Any]
    level: str
    notes: str

    @property
    def text(self) -> str:
        """Name the rule in a line that a person can act on."""
        plain = self.kind.removeprefix("expect_").replace("_", " ")
        columns = ", ".join(self.columns)
        values = {k: v for k, v in self.kwargs.items() if k not in COLUMN_ARGUMENTS}
        said = " ".join([plain, json.dumps(values, ensure_ascii=False)]) if values else plain
        return f"{columns}: {said}" if columns else said

    @property
    def columns(self) -> list[str]:
        """Name the columns that it is about, in the rule's order."""
        named = [self.kwargs[key] for key in COLUMN_ARGUMENTS if key in self.kwargs]
        return [c for name in named for c in (name if isinstance(name, list) else [name])]


def read_rules(path: Path, known: set[str]) -> list[Rule]:
    """Read a suite; raise ConfigError with every problem in it. `known`: expectation types."""
    try:
        suite = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), [f"not readable as JSON: {error}"]) from None
    if not isinstance(suite, dict) or set(suite) - {"name", "expectations", "meta"}:
        raise ConfigError(str(path), ["must hold `name` and `expectations`, nothing else"])
    entries = suite.get("expectations")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(str(path), ["`expectations` must be a list with at least one entry"])
    problems = [p for i, entry in enumerate(entries) for p in _problems(i, entry, known)]
    if problems:
        raise ConfigError(str(path), problems)
    return [
        Rule(e["type"], e["kwargs"], e["meta"]["level"], str(e["meta"].get("notes", "")))
        for e in entries
    ]


def _problems(index: int, entry: Any, known: set[str]) -> list[str]:
    where = f"expectations[{index}]"
    if not isinstance(entry, dict) or set(entry) != {"type", "kwargs", "meta"}:
        return [f"{where}: must hold `type`, `kwargs` and `meta`, nothing else"]
    problems = []
    if entry["type"] not in known:
        problems.append(f"{where}.type: unknown expectation {entry['type']!r}")
    meta, kwargs = entry["meta"], entry["kwargs"]
    level = meta.get("level") if isinstance(meta, dict) else None
    if level not in LEVELS:
        problems.append(f"{where}.meta.level: must be one of {', '.join(LEVELS)}, got {level!r}")
    if not isinstance(kwargs, dict) or not all(_plain(value) for value in kwargs.values()):
        problems.append(
            f"{where}.kwargs: must map names to plain values, lists or mappings of them"
        )
    elif level == "row" and not set(COLUMN_ARGUMENTS) & set(kwargs):
        problems.append(f"{where}: a rule for rows must name a column")
    return problems


def _plain(value: Any) -> bool:
    """Tell whether a value is what it says: nothing in it is filled in later."""
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(_plain(part) for item in value.items() for part in item)
    return isinstance(value, str | int | float | None) and not FILLED_IN.search(str(value))
