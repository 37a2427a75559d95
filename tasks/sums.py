"""SHA256SUMS: written last into every output, checked by whoever reads it next.

The format is sha256sum's own, so `cd models/flights/weights && sha256sum -c SHA256SUMS` works.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from slipway.errors import SlipwayError

SUMS = "SHA256SUMS"


def write(folder: Path) -> None:
    """Seal a complete folder."""
    lines = [f"{_digest(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def check(folder: Path) -> None:
    """Compare a folder with its seal; name every file that differs."""
    if not (folder / SUMS).is_file():
        raise SlipwayError(f"{folder} has no {SUMS}: it is not complete; remove it and run again")
    if found := problems(folder):
        raise SlipwayError(
            f"{folder} is damaged: {'; '.join(found)}. Remove {folder} (and, if it comes back"
            " damaged, `.dvc/cache`) and run again"
        )


def problems(folder: Path) -> list[str]:
    """Say how a folder differs from its seal."""
    if not (folder / SUMS).is_file():
        return [f"{SUMS} is missing"]
    recorded, found = _recorded(folder), set(_files(folder))
    differing = [n for n in sorted(found & recorded.keys()) if _digest(folder / n) != recorded[n]]
    return [
        *(f"{name} is missing" for name in sorted(recorded.keys() - found)),
        *(f"{name} is not in {SUMS}" for name in sorted(found - recorded.keys())),
        *(f"{name} differs from its SHA-256" for name in differing),
    ]


def seals(folders: Iterable[Path], root: Path = Path()) -> dict[str, str]:
    """Name what each folder holds by the SHA-256 of its seal; one without a seal is not named."""
    found = {folder: root / folder / SUMS for folder in folders}
    return {str(f): _digest(seal) for f, seal in found.items() if seal.is_file()}


def read(path: Path) -> bytes:
    """Read one file of a sealed folder; refuse one that is not what its seal says.

    A folder without a seal belongs to a stage that did not come to its end: what it holds is
    returned as it is, and raises OSError if it is not there.
    """
    data = path.read_bytes()
    if (path.parent / SUMS).is_file():
        listed = _recorded(path.parent).get(path.name)
        if listed != hashlib.sha256(data).hexdigest():
            raise SlipwayError(
                f"{path} is damaged: it differs from the SHA-256 in {SUMS}. Remove {path.parent}"
                " and run again"
            )
    return data


def _recorded(folder: Path) -> dict[str, str]:
    """Read a seal: the digest of each file by its name."""
    lines = (folder / SUMS).read_text("utf-8", "replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != SUMS
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
