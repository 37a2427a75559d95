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
from typing import IO

from flows.backup import cached, holdings, plan, repository
from flows.backup.archive import Archive, Read, copy
from flows.backup.encryption import encrypt
from flows.backup.holdings import Found, Holdings, Places
from flows.backup.repository import GitFacts
from flows.backup.snapshot import KeptFile, Piece, Repository, Secrets, Snapshot
from flows.backup.store_files import promised_sha256
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
class Made:
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
    files: tuple[Found, ...]
    sizes: Mapping[str, int]
    notes: tuple[str, ...]
    begun: str


def look(wanted: Wanted) -> Contents:
    """List what is to be kept, and refuse what cannot be kept as it is asked for."""
    begun = now()
    git = repository.facts(wanted.root)
    held = holdings.look(wanted.root)
    plan.require_encryption(len(held.secrets), wanted.encrypt, without=wanted.without_secrets)
    cache = cached.look(wanted.root)
    files = (*held.files, *cache.files)
    told = plan.notes(git.uncommitted, git.uncommitted_count, len(cache.missing))
    if held.secrets and wanted.without_secrets:
        told.append(
            f"{len(held.secrets)} secret files are not in it: whoever restores makes new keys"
        )
    told += [_reached(store) for store in held.stores]
    sizes = {found.path: found.where.stat().st_size for found in files}
    return Contents(git, held, files, sizes, (*held.notes, *told), begun)


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


def preview(wanted: Wanted) -> Made:
    """Say what a backup would hold; nothing is written, and nothing encrypted."""
    found = look(wanted)
    secrets = 0 if wanted.without_secrets else len(found.held.secrets)
    before = _newest(wanted.archive)
    sizes = wanted.archive.sizes()
    reading = plan.what_to_read(found.files, before, sizes, found.sizes)
    unread = sum(found.sizes[each.path] for each in reading.unread)
    kinds = plan.summary(found.files, found.sizes)
    return Made(None, kinds, secrets, len(reading.unread), unread, 0.0, found.notes)


def back_up(wanted: Wanted) -> Made:
    """Make one snapshot; whatever stops this leaves none, and the next goes on."""
    began = time.monotonic()
    found = look(wanted)
    archive = wanted.archive
    archive.prepare()
    before, sizes = _newest(archive), archive.sizes()
    reading = plan.what_to_read(found.files, before, sizes, found.sizes)
    read, held_in_memory = _read_all(reading.unread)
    kept = {**reading.known, **read}
    files = [_as_it_is(kept[each.path], each) for each in found.files]
    secrets, sealed = _seal_secrets(wanted, found.held)
    with _bundle(wanted.root, found.git, before, sizes) as (git, bundle):
        snapshot = _snapshot(wanted, found, files, repository=git)
        snapshot = snapshot.model_copy(update={"secrets": secrets})
        where = {each.path: each.where for each in found.files}
        sources: dict[str, Read] = {path: _opening(path_) for path, path_ in where.items()}
        sources |= {path: _holding(data) for path, data in held_in_memory.items()}
        sources["the secrets"] = _holding(sealed)
        sources["the git repository"] = _opening(bundle)
        lacking = plan.what_to_copy(snapshot.pieces, sizes)
        for name, piece in lacking.items():
            _put(archive, name, piece, sources[name])
    name = archive.seal(snapshot)
    return Made(
        name,
        plan.summary(found.files, found.sizes),
        secrets.files if secrets else 0,
        len(lacking),
        sum(piece.size_bytes for piece in lacking.values()),
        time.monotonic() - began,
        found.notes,
    )


def _put(archive: Archive, name: str, piece: Piece, read: Read) -> None:
    try:
        archive.put(piece, read)
    except SlipwayError as error:
        raise SlipwayError(f"{name}: {error}; no snapshot was made, run it again") from None


def _newest(archive: Archive) -> Snapshot | None:
    """Return the snapshot before; one that is damaged tells nothing, and all is read anew."""
    for name in reversed(archive.snapshots()):
        try:
            return archive.snapshot(name)
        except SlipwayError:
            continue
    return None


def _read_all(unread: tuple[Found, ...]) -> tuple[dict[str, KeptFile], dict[str, bytes]]:
    """Hash files; raise SlipwayError that names every one that is not what its name promises."""
    read: dict[str, KeptFile] = {}
    in_memory: dict[str, bytes] = {}
    damaged: list[str] = []
    for found in unread:
        with _opened(found, in_memory) as source:
            kept, md5 = _hashed(found, source)
        if cached.expected_md5(found) not in (None, md5):
            damaged.append(f"{found.path}: its MD5 is not its name")
        elif promised_sha256(found) not in (None, kept.sha256):
            damaged.append(f"{found.path}: its SHA-256 is not the one that its manifest lists")
        read[found.path] = kept
    if damaged:
        told = "\n  ".join(damaged)
        raise SlipwayError(
            f"{len(damaged)} damaged files would be kept as if they were whole:\n  {told}\n"
            "  no snapshot was made; mend them first: slipway verify --all --heal"
        )
    return read, in_memory


@contextmanager
def _opened(found: Found, in_memory: dict[str, bytes]) -> Iterator[IO[bytes]]:
    """Open a file to be hashed; what others may write now is read once, for hash and copy."""
    try:
        if found.moves:
            in_memory[found.path] = found.where.read_bytes()
            yield io.BytesIO(in_memory[found.path])
            return
        with found.where.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise SlipwayError(
            f"{found.path} went away while it was read: something is being cleared; no snapshot"
            " was made, run it again"
        ) from None
    except OSError as error:
        raise SlipwayError(f"{found.path}: cannot be read: {error.strerror}") from None


class _Md5:
    """Takes bytes on their way through, for a second digest."""

    def __init__(self) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.size_bytes = 0

    def write(self, chunk: bytes) -> int:
        self.md5.update(chunk)
        self.size_bytes += len(chunk)
        return len(chunk)


def _hashed(found: Found, source: IO[bytes]) -> tuple[KeptFile, str]:
    through = _Md5()
    sha256 = copy(source, through)
    mode = stat.S_IMODE(found.where.stat().st_mode)
    kept = KeptFile(
        sha256=sha256, size_bytes=through.size_bytes, path=found.path, kind=found.kind, mode=mode
    )
    return kept, through.md5.hexdigest()


def _as_it_is(kept: KeptFile, found: Found) -> KeptFile:
    """Take the mode of now: what is in a file is fixed, who may read it is not."""
    mode = stat.S_IMODE(found.where.stat().st_mode)
    return kept if kept.mode == mode else kept.model_copy(update={"mode": mode})


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
    root: Path, git: GitFacts, before: Snapshot | None, sizes: Mapping[str, int]
) -> Iterator[tuple[Repository, Path]]:
    """Write the repository's bundle, unless the same refs are in the backup already."""
    known = before.repository if before else None
    told = {
        "refs": git.refs,
        "commit": git.commit,
        "branch": git.branch,
        "prefix": git.prefix,
        "remotes": git.remotes,
    }
    if known is not None and known.refs == git.refs and plan.is_there(known, sizes):
        yield known.model_copy(update=told), Path()
        return
    with tempfile.TemporaryDirectory(prefix="slipway-backup-") as aside:
        path = Path(aside, "repository.bundle")
        repository.write_bundle(root, path)
        with path.open("rb") as file:
            digest = copy(file, None)
        size = path.stat().st_size
        yield Repository.model_validate({"sha256": digest, "size_bytes": size, **told}), path


def _snapshot(
    wanted: Wanted, found: Contents, files: list[KeptFile], repository: Repository
) -> Snapshot:
    return Snapshot(
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


def _folders(root: Path, files: list[Found]) -> dict[str, int]:
    """Note the modes of folders that are not as usual: those of keys and of hosts' memory."""
    places, modes = Places(root), {}
    names = {str(parent) for found in files for parent in Path(found.path).parents}
    for name in sorted(names - {"."}):
        where = places.path(name)
        if where.is_dir() and (mode := stat.S_IMODE(where.stat().st_mode)) != USUAL_FOLDER:
            modes[name] = mode
    return modes


def _opening(path: Path) -> Read:
    return lambda: path.open("rb")


def _holding(data: bytes) -> Read:
    return lambda: io.BytesIO(data)
