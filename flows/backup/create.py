"""Make a backup: read what is new, refuse what is damaged, copy what the place lacks, seal it."""

import hashlib
import io
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.backup import cached, holdings, plan, repository
from flows.backup.archive import Archive, Read, copy
from flows.backup.encryption import encrypt
from flows.backup.holdings import FoundFile, Holdings, Places
from flows.backup.reading import opening, read_files, size_of
from flows.backup.repository import GitFacts
from flows.backup.snapshot import BackupSnapshot, KeptFile, Piece, Repository, Secrets
from slipway import __version__
from slipway.errors import SlipwayError
from slipway.runs.record import now
from slipway.store.objects import Store
from slipway.wording import scrub

USUAL_FOLDER = 0o755


@dataclass(frozen=True)
class Wanted:
    """What a backup is asked for."""

    root: Path
    archive: Archive
    encrypt: str | None
    without_secrets: bool


@dataclass(frozen=True)
class BackupMade:
    """What a backup came to."""

    snapshot: str | None
    """None: a dry run."""
    kinds: Mapping[str, tuple[int, int]]
    """Files and bytes by kind."""
    secrets: int
    new_objects: int
    new_bytes: int
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """Everything that one snapshot is to hold, listed."""

    git: GitFacts
    held: Holdings
    files: tuple[FoundFile, ...]
    sizes: Mapping[str, int]
    notes: tuple[str, ...]
    begun: str


def look(wanted: Wanted, git: GitFacts) -> Contents:
    """List what is to be kept, and refuse what cannot be kept as it is asked for."""
    begun = now()
    held = holdings.look(wanted.root)
    plan.require_encryption(len(held.secrets), wanted.encrypt, without=wanted.without_secrets)
    cache = cached.look(wanted.root)
    files = (*held.files, *cache.files)
    lacks = plan.notes(git.uncommitted, git.uncommitted_count, len(cache.missing))
    if held.secrets and wanted.without_secrets:
        lacks.append(
            f"{len(held.secrets)} secret files are not in it: whoever restores makes new keys"
        )
    lacks += [_reached(store) for store in held.stores]
    sizes = {found.path: size_of(found) for found in files}
    return Contents(
        git=git, held=held, files=files, sizes=sizes, notes=(*held.notes, *lacks), begun=begun
    )


def _reached(store: str) -> str:
    """Say of a store elsewhere that it is there; raise SlipwayError where it is not.

    With its store out of reach a project is not kept: a restored one would point at nothing.
    """
    place = scrub(store)
    try:
        Store(store).names("channels")
    except (ValueError, ImportError, SlipwayError) as error:
        raise SlipwayError(
            f"the store {place} cannot be reached ({error}), and it is no folder of this machine"
            " that could be kept; no snapshot was made"
        ) from None
    return f"the store {place} is elsewhere, and can be reached: its own backup counts"


def preview(wanted: Wanted) -> BackupMade:
    """Say what a backup would hold; nothing is written, and nothing encrypted."""
    found = look(wanted, repository.facts(wanted.root))
    secrets = 0 if wanted.without_secrets else len(found.held.secrets)
    before = _newest(wanted.archive)
    sizes = wanted.archive.sizes()
    reading = plan.what_to_read(found.files, before, sizes, found.sizes)
    unread = sum(found.sizes[each.path] for each in reading.unread)
    kinds = plan.summary(found.files, found.sizes)
    return BackupMade(
        snapshot=None,
        kinds=kinds,
        secrets=secrets,
        new_objects=len(reading.unread),
        new_bytes=unread,
        seconds=0.0,
        notes=found.notes,
    )


def back_up(wanted: Wanted) -> BackupMade:
    """Make one snapshot; whatever stops this leaves none, and the next goes on.

    Git comes first: what a commit names was in DVC's cache before it.
    """
    began = time.monotonic()
    archive, git = wanted.archive, repository.facts(wanted.root)
    before, sizes = _newest(archive), archive.sizes()
    with _bundle(wanted.root, git, before, sizes) as (kept, bundle):
        found = look(wanted, git)
        archive.prepare()
        files = read_files(found.files, plan.what_to_read(found.files, before, sizes, found.sizes))
        secrets, sealed = _seal_secrets(wanted, found.held)
        snapshot = _snapshot(wanted, found, files, repository=kept)
        snapshot = snapshot.model_copy(update={"secrets": secrets})
        sources = {each.path: opening(each) for each in found.files}
        sources["the secrets"] = lambda: io.BytesIO(sealed)
        sources["the git repository"] = lambda: bundle.open("rb")
        lacking = plan.what_to_copy(snapshot.pieces, sizes)
        for name, piece in lacking.items():
            _put(archive, name, piece, sources[name])
    name = archive.seal(snapshot)
    return BackupMade(
        snapshot=name,
        kinds=plan.summary(found.files, found.sizes),
        secrets=secrets.files if secrets else 0,
        new_objects=len(lacking),
        new_bytes=sum(piece.size_bytes for piece in lacking.values()),
        seconds=time.monotonic() - began,
        notes=found.notes,
    )


def _put(archive: Archive, name: str, piece: Piece, read: Read) -> None:
    try:
        archive.put(piece, read)
    except SlipwayError as error:
        raise SlipwayError(f"{name}: {error}; no snapshot was made, run it again") from None


def _newest(archive: Archive) -> BackupSnapshot | None:
    """Return the snapshot before; one that is damaged tells nothing, and all is read anew."""
    for name in reversed(archive.snapshots()):
        try:
            return archive.snapshot(name)
        except SlipwayError:
            continue
    return None


def _seal_secrets(wanted: Wanted, held: Holdings) -> tuple[Secrets | None, bytes]:
    """Encrypt all secrets as one tar archive, which any tar can open again."""
    if wanted.without_secrets or not held.secrets or wanted.encrypt is None:
        return None, b""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for found in held.secrets:
            tar.add(found.where.resolve(), arcname=found.path, recursive=False)
    sealed = encrypt(wanted.encrypt, plain.getvalue(), wanted.root)
    digest = hashlib.sha256(sealed).hexdigest()
    return Secrets(sha256=digest, size_bytes=len(sealed), files=len(held.secrets)), sealed


@contextmanager
def _bundle(
    root: Path, git: GitFacts, before: BackupSnapshot | None, sizes: Mapping[str, int]
) -> Iterator[tuple[Repository, Path]]:
    """Write the repository's bundle, unless the same refs are in the backup already."""
    known = before.repository if before else None
    of_git = {
        "refs": git.refs,
        "commit": git.commit,
        "branch": git.branch,
        "prefix": git.prefix,
        "remotes": git.remotes,
    }
    if known is not None and known.refs == git.refs and plan.is_there(known, sizes):
        yield known.model_copy(update=of_git), Path()
        return
    with tempfile.TemporaryDirectory(prefix="slipway-backup-") as aside:
        path = Path(aside, "repository.bundle")
        repository.write_bundle(root, path)
        with path.open("rb") as file:
            digest = copy(file, None)
        if repository.facts(root).refs != git.refs:
            raise SlipwayError("somebody committed meanwhile; no snapshot was made, run it again")
        size = path.stat().st_size
        yield (
            Repository.model_validate({"sha256": digest, "size_bytes": size, **of_git}),
            path,
        )


def _snapshot(
    wanted: Wanted, found: Contents, files: list[KeptFile], repository: Repository
) -> BackupSnapshot:
    return BackupSnapshot(
        format=1,
        at=found.begun,
        slipway=__version__,
        project=wanted.root.resolve().name,
        repository=repository,
        files=files,
        folders=_folders(wanted.root, [*found.files, *found.held.secrets]),
        secrets=None,
        notes=list(found.notes),
    )


def _folders(root: Path, files: list[FoundFile]) -> dict[str, int]:
    """Note the modes of folders that are not as usual: those of keys and of hosts' memory."""
    places, modes = Places(root), {}
    names = {str(parent) for found in files for parent in Path(found.path).parents}
    for name in sorted(names - {"."}):
        where = places.path(name)
        if where.is_dir() and (mode := stat.S_IMODE(where.stat().st_mode)) != USUAL_FOLDER:
            modes[name] = mode
    return modes
