"""Snapshots and their files for the tests of backups."""

import hashlib

from flows.backup.snapshot import BackupSnapshot, KeptFile, Kind, Repository, Secrets


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_file(path: str, data: bytes = b"data", kind: Kind = "cache") -> KeptFile:
    return KeptFile(
        path=path, kind=kind, mode=0o644, sha256=sha256(data), size_bytes=len(data)
    )  # fmt: skip


def make_snapshot(
    *files: KeptFile, at: str = "2026-11-30T12:00:00+00:00", secrets: Secrets | None = None
) -> BackupSnapshot:
    repository = Repository(
        sha256=sha256(b"git"), size_bytes=3, refs=sha256(b"refs"), commit="c" * 40,
        branch="main", prefix="", remotes={},
    )  # fmt: skip
    return BackupSnapshot(
        format=1, at=at, slipway="0", project="p", repository=repository, files=list(files),
        folders={}, secrets=secrets, notes=[],
    )  # fmt: skip
