"""Decide what a backup has to read, and what of that it has to copy. No file is touched here."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.backup.holdings import FoundFile
from flows.backup.snapshot import BackupSnapshot, KeptFile, Piece
from slipway.errors import ConfigError


@dataclass(frozen=True)
class Reading:
    """Which files must be read, and what is known of the others."""

    unread: tuple[FoundFile, ...]
    known: Mapping[str, KeptFile]
    """By path, from the snapshot before."""


def what_to_read(
    files: Iterable[FoundFile],
    before: BackupSnapshot | None,
    sizes: Mapping[str, int],
    size_of: Mapping[str, int],
) -> Reading:
    """Choose the files that are new or may have changed.

    What is named by its content, has the size that it had, and is whole in the backup by its size
    was read and checked when that snapshot was made.
    """
    kept = {file.path: file for file in before.files} if before else {}
    known = {
        found.path: old
        for found in files
        if found.by_digest
        and (old := kept.get(found.path)) is not None
        and old.size_bytes == size_of.get(found.path)
        and is_there(old, sizes)
    }
    return Reading(tuple(found for found in files if found.path not in known), known)


def is_there(piece: Piece, sizes: Mapping[str, int]) -> bool:
    """Tell whether the backup has an object to its end; one that was cut off is shorter."""
    return sizes.get(piece.sha256) == piece.size_bytes


def what_to_copy(pieces: Mapping[str, Piece], sizes: Mapping[str, int]) -> dict[str, Piece]:
    """Choose one name for each object that the backup lacks."""
    chosen: dict[str, tuple[str, Piece]] = {}
    for name, piece in pieces.items():
        if not is_there(piece, sizes):
            chosen.setdefault(piece.sha256, (name, piece))
    return dict(chosen.values())


def require_encryption(secrets: int, encrypt: str | None, *, without: bool) -> None:
    """Refuse secrets that would be written as they are, before anything is."""
    if not secrets or encrypt or without:
        return
    raise ConfigError(
        "the command line",
        [
            f"there are {secrets} secret files (keys, credentials), and nothing to encrypt them"
            ' with: slipway backup URL --encrypt "age -R configs/backup-recipients.txt", or'
            " `encrypt:` in configs/backup.yaml; --without-secrets leaves them out, and whoever"
            " restores then makes new keys, which every host must be told to trust"
        ],
    )


def summary(files: Iterable[FoundFile], size_of: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Count files and bytes by kind."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for found in files:
        counts[found.kind] += 1
        sizes[found.kind] += size_of.get(found.path, 0)
    return {kind: (counts[kind], sizes[kind]) for kind in counts}


def notes(uncommitted: tuple[str, ...], count: int, missing: int) -> list[str]:
    """Say what a restored project will lack."""
    lines = []
    if count:
        shown = ", ".join(uncommitted[:5]) + (", ..." if count > 5 else "")
        lines.append(f"not in git, so not kept: {count} changed files ({shown}); commit them")
    if missing:
        lines.append(
            f"DVC's cache lacks {missing} outputs that dvc.lock names: a restored project makes"
            " them again (here: slipway build)"
        )
    return lines
