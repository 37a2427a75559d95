"""Bring a snapshot back into an empty folder: every object is checked before it gets its place.

While this goes on, `.restoring` lies in the folder and the git repository does not: a folder that
was half restored is no project to any command. A restore that was killed is run again as it was,
and keeps what is whole.
"""

import io
import shutil
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.backup import repository
from flows.backup.archive import Archive, ChangedWhileRead, copy
from flows.backup.cached import point_at_cache
from flows.backup.encryption import run_filter
from flows.backup.plan import is_there
from flows.backup.snapshot import NAME, BackupSnapshot, KeptFile, inside
from flows.checkout.commands import git
from slipway.errors import ConfigError, SlipwayError
from slipway.runs.record import LATEST

MARK = ".restoring"
"""Names the snapshot that is being brought back."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What is to be restored, where to, and how its secrets are read."""

    archive: Archive
    name: str
    """The snapshot's."""
    into: Path
    decrypt: str | None
    here: Path
    """Where the command to decrypt with is run."""
    without_secrets: bool = False


@dataclass(frozen=True)
class Restoration:
    """What came back."""

    project: Path
    files: int
    size_bytes: int
    secrets: int
    seconds: float


def choose(names: list[str], wanted: str | None) -> str:
    """Return the newest snapshot, or the one that a beginning of a name means."""
    if not names:
        raise SlipwayError("there is no snapshot in this backup: slipway backup URL makes one")
    if wanted is None:
        return names[-1]
    found = [name for name in names if name.startswith(wanted) or wanted in name.split("-", 1)[1]]
    if len(found) == 1:
        return found[0]
    said = "no snapshot is" if not found else f"{len(found)} snapshots are"
    newest = ", ".join(name.removesuffix(".json") for name in names[-5:])
    raise ConfigError("the command line", [f"{said} named {wanted!r}; the newest: {newest}"])


def restore(asked: Asked, say: Say) -> Restoration:
    """Restore a snapshot whole, or say of everything that is damaged what it belongs to."""
    began = time.monotonic()
    snapshot = asked.archive.snapshot(asked.name)
    require_secrets(snapshot, asked)
    refuse_a_used_folder(asked.into, asked.name)
    require_objects(snapshot, asked.archive.sizes(), asked.name)
    secrets = _open_secrets(snapshot, asked)
    _begin(asked)
    project = asked.into / snapshot.repository.prefix
    damaged = [said for file in snapshot.files if (said := _bring(asked.archive, file, project))]
    damaged += _bring_repository(snapshot, asked)
    if damaged:
        raise SlipwayError(_told_damaged(asked, damaged))
    _write_secrets(secrets, project)
    _check_out(snapshot, asked, say)
    _finish(snapshot, project)
    point_at_cache(project, say)
    (asked.into / MARK).unlink()
    return Restoration(
        project=project,
        files=len(snapshot.files),
        size_bytes=sum(piece.size_bytes for piece in snapshot.pieces.values()),
        secrets=len(secrets),
        seconds=time.monotonic() - began,
    )


def require_secrets(snapshot: BackupSnapshot, asked: Asked) -> None:
    """Refuse secrets that cannot be read, before anything is changed."""
    if snapshot.secrets is None or asked.without_secrets or asked.decrypt:
        return
    raise ConfigError(
        "the command line",
        [
            f"the snapshot has {snapshot.secrets.files} secret files, and nothing says how to"
            ' read them: slipway restore URL INTO --decrypt "age -d -i IDENTITY", or'
            " --without-secrets: then new keys are made, which every host must be told to trust"
        ],
    )


def refuse_a_used_folder(into: Path, name: str) -> None:
    """Refuse a folder that holds anything but a restore of the same snapshot that was cut off."""
    if not into.exists():
        return
    if not into.is_dir():
        raise ConfigError("the command line", [f"{into} is no folder"])
    begun = _begun(into)
    if begun == name or not any(into.iterdir()):
        return
    if begun is not None:
        problem = (
            f"{into} holds a restore of {begun.removesuffix('.json')} that did not end: go on with"
            f" it by --snapshot {begun.removesuffix('.json')}, or remove the folder"
        )
    else:
        problem = f"{into} is not empty, and a restore would mix with what is there"
    raise ConfigError("the command line", [problem])


def require_objects(snapshot: BackupSnapshot, sizes: Mapping[str, int], name: str) -> None:
    """Refuse a backup that lacks an object or has one cut off, before anything is changed."""
    gone = [f"{what}: {_how(piece.sha256, sizes)}" for what, piece in snapshot.pieces.items()
            if not is_there(piece, sizes)]  # fmt: skip
    if gone:
        names = "\n  ".join(gone)
        raise SlipwayError(
            f"snapshot {name.removesuffix('.json')} is not whole, so nothing was restored:\n"
            f"  {names}\n  another one may be: slipway restore URL --list"
        )


def _how(sha256: str, sizes: Mapping[str, int]) -> str:
    there = sizes.get(sha256)
    what = "is missing" if there is None else f"was cut off at {there:,} bytes"
    return f"objects/{sha256} {what}"


def _begun(into: Path) -> str | None:
    try:
        name = (into / MARK).read_text("utf-8").strip()
    except OSError:
        return None
    return name if NAME.fullmatch(name) else None


def _begin(asked: Asked) -> None:
    """Mark the folder, and clear what git had begun: its own locks would stop it."""
    asked.into.mkdir(parents=True, exist_ok=True)
    (asked.into / MARK).write_text(f"{asked.name}\n", "utf-8")
    shutil.rmtree(asked.into / ".git", ignore_errors=True)


def _bring(archive: Archive, file: KeptFile, project: Path) -> str | None:
    """Fetch one file to its place; say what is wrong with an object that is damaged."""
    target = project / file.path
    if _is_whole(target, file):
        target.chmod(file.mode)
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.restoring")
    aside.unlink(missing_ok=True)
    try:
        with aside.open("xb") as part:
            archive.get(file, part)
        aside.chmod(file.mode)
        aside.replace(target)
    except ChangedWhileRead as error:
        aside.unlink()
        return f"{file.path}: objects/{file.sha256} {error}"
    return None


def _is_whole(target: Path, file: KeptFile) -> bool:
    if not target.is_file() or target.stat().st_size != file.size_bytes:
        return False
    with target.open("rb") as there:
        return copy(there, None) == file.sha256


def _bring_repository(snapshot: BackupSnapshot, asked: Asked) -> list[str]:
    piece = snapshot.repository
    try:
        with (asked.into / f"{MARK}.bundle").open("wb") as bundle:
            asked.archive.get(piece, bundle)
    except ChangedWhileRead as error:
        return [f"the git repository: objects/{piece.sha256} {error}"]
    return []


def _told_damaged(asked: Asked, damaged: list[str]) -> str:
    names = "\n  ".join(damaged)
    return (
        f"{len(damaged)} damaged in the backup, so {asked.into} is not whole and no project:\n"
        f"  {names}\n  remove the folder and take another snapshot (slipway restore URL --list), or"
        " mend the objects and run this again: what came over whole is kept"
    )


def _open_secrets(snapshot: BackupSnapshot, asked: Asked) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Read and decrypt the secrets in memory, before anything is written."""
    if snapshot.secrets is None or asked.without_secrets:
        return []
    assert asked.decrypt, "require_secrets has seen to it"
    try:
        sealed = asked.archive.read(snapshot.secrets)
    except ChangedWhileRead as error:
        raise SlipwayError(
            f"the secrets: objects/{snapshot.secrets.sha256} {error}; nothing was restored."
            " --without-secrets restores the rest"
        ) from None
    plain = run_filter(asked.decrypt, sealed, asked.here)
    try:
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            members = [member for member in tar if member.isfile() and inside(member.name)]
            found = [(each, tar.extractfile(each)) for each in members]
            return [(each, file.read()) for each, file in found if file is not None]
    except (tarfile.TarError, ValueError) as error:
        raise SlipwayError(
            f"`{asked.decrypt}` gave no secrets of a backup ({error}); nothing was restored"
        ) from None


def _write_secrets(secrets: list[tuple[tarfile.TarInfo, bytes]], project: Path) -> None:
    """Write each with its mode from the start: nobody else ever sees one."""
    for member, data in secrets:
        target = project / member.name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.unlink(missing_ok=True)
        target.touch(mode=0o600)
        target.write_bytes(data)
        target.chmod(member.mode & 0o777)


def _check_out(snapshot: BackupSnapshot, asked: Asked, say: Say) -> None:
    """Make the repository last: with it the folder is a project."""
    kept, bundle = snapshot.repository, asked.into / f"{MARK}.bundle"
    repository.unbundle(bundle, asked.into, commit=kept.commit, branch=kept.branch)
    for remote, url in kept.remotes.items():
        git(asked.into, "remote", "add", remote, url)
    bundle.unlink()
    say(f"git       {kept.branch or 'no branch'} at {kept.commit[:12]}")


def _finish(snapshot: BackupSnapshot, project: Path) -> None:
    """Give folders their modes, and people their link to the newest run."""
    for folder, mode in snapshot.folders.items():
        if (project / folder).is_dir():
            (project / folder).chmod(mode)
    runs = project / ".slipway/runs"
    newest = max((path.name for path in runs.glob("2*")), default=None)
    link = runs / LATEST
    if newest and not link.is_symlink():
        link.symlink_to(newest)
