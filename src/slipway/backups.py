"""What a project says of its backups (`configs/backup.yaml`), and notes of those that were made.

The notes are what `slipway doctor` goes by: it must tell of a missing backup also where the place
that backups go to cannot be reached.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from slipway.sections import Section, parse
from slipway.state import NAME, settled
from slipway.wording import moment

CONFIG = Path("configs/backup.yaml")
BACKUPS = Path(NAME, "backups.jsonl")
DRILLS = Path(NAME, "drills.jsonl")
LOCK = Path(NAME, "backup.lock")
"""Held by backups and prunes: nothing may go away while it is copied."""

Days = Annotated[float, Field(gt=0)]


class BackupConfig(Section):
    """Where backups go, and what keeps their secrets."""

    format: Literal[1]
    """The form of this file."""
    to: str
    """A folder (relative to the project), or any URL that fsspec has a driver for."""
    encrypt: str | None = None
    """Reads secrets on stdin, writes them encrypted: `age -R configs/backup-recipients.txt`."""
    decrypt: str | None = None
    """Turns that back: `age -d -i ~/backup-identity.txt`."""
    backup_days: Days = 7.0
    """`slipway doctor` warns when the newest backup is older."""
    drill_days: Days = 30.0
    """`slipway doctor` warns when the last drill that found nothing missing is older."""


@dataclass(frozen=True)
class Note:
    """One line of `backups.jsonl` or `drills.jsonl`."""

    at: str
    """When it ended, ISO 8601."""
    to: str
    """The place, without credentials."""
    snapshot: str
    ok: bool = True
    seconds: float = 0.0
    detail: str = ""


def find_config(root: Path) -> BackupConfig | None:
    """Read the config; None where the project has none. Raise ConfigError with every problem."""
    path = root / CONFIG
    return parse(BackupConfig, path, root) if path.exists() else None


def note(root: Path, file: Path, line: Note) -> None:
    """Add a line; a torn one, from a power cut, is skipped by who reads."""
    path = settled(root / file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as notes:
        notes.write(json.dumps(asdict(line)) + "\n")


def newest(root: Path, file: Path) -> Note | None:
    """Return the last line of what went well."""
    try:
        lines = settled(root / file).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return None
    good = [found for line in lines if (found := _read(line)) is not None and found.ok]
    return good[-1] if good else None


def warnings(root: Path, config: BackupConfig, now: datetime) -> dict[str, str]:
    """Say of backup and drill how old they are, and what to type where that is too old."""
    asked = {
        "backup": (newest(root, BACKUPS), config.backup_days, "slipway backup"),
        "drill": (newest(root, DRILLS), config.drill_days, f"slipway restore --drill {config.to}"),
    }
    return {name: _age(*each, now) for name, each in asked.items()}


def _age(found: Note | None, days: float, command: str, now: datetime) -> str:
    begun = moment(found.at) if found else None
    if found is None or begun is None:
        return f"WARNING: none was ever made from here: {command}"
    age = now - begun
    age_words = f"{age / timedelta(days=1):.1f} days old, in {found.to}"
    if age <= timedelta(days=days):
        return age_words
    return f"WARNING: {age_words}; at most {days:g} days are wanted: {command}"


def _read(line: str) -> Note | None:
    try:
        value: dict[str, Any] = json.loads(line)
        return Note(**value)
    except (ValueError, TypeError):
        return None
