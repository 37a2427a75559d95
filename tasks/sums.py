"""SHA256SUMS: written last into every output, checked by whoever reads it next.

The format is sha256sum's own, so `cd models/flights/weights && sha256sum -c SHA256SUMS` works.
"""

import hashlib
from pathlib import Path

from slipway.errors import SlipwayError

SUMS = "SHA256SUMS"


def write(folder: Path) -> None:
    """Seal a complete folder."""
    lines = [f"{_digest(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def check(folder: Path) -> None:
    """Compare a folder with its seal; name every file that differs."""
    seal = folder / SUMS
    if not seal.is_file():
        raise SlipwayError(f"{folder} has no {SUMS}: it is not complete; remove it and run again")
    recorded = {}
    for line in seal.read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        recorded[name] = digest
    found = set(_files(folder))
    problems = [f"{name} is missing" for name in sorted(recorded.keys() - found)]
    problems += [f"{name} is not in {SUMS}" for name in sorted(found - recorded.keys())]
    problems += [
        f"{name} differs from its SHA-256"
        for name in sorted(found & recorded.keys())
        if _digest(folder / name) != recorded[name]
    ]
    if problems:
        raise SlipwayError(
            f"{folder} is damaged: {'; '.join(problems)}. Remove {folder} (and, if it comes back"
            " damaged, `.dvc/cache`) and run again"
        )


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != SUMS
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
