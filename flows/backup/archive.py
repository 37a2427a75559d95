"""The place of backups behind any fsspec URL: `objects/<sha256>` and `snapshots/<name>`.

An object is created once. It is hashed again while it is copied, both ways: what does not have
the digest that it is named by never gets its name, here or in a project.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from flows.backup.snapshot import NAME, BackupSnapshot, Piece, decode, encode
from slipway.bundle.format import sync_folder
from slipway.errors import SlipwayError
from slipway.store.objects import Store
from slipway.store.places import LocalPlace, ObjectPlace, open_place

CHUNK_BYTES = 1 << 20

Read = Callable[[], IO[bytes]]
"""Opens what is to be kept."""


class ChangedWhileRead(SlipwayError):
    """Bytes are not those of the digest that they go by."""


class Archive:
    """Objects and snapshots in one place."""

    def __init__(self, url: str) -> None:
        """Take a folder or a URL; nothing is touched yet."""
        self.url = url
        self._small = Store(url)
        with self._explained("open", url):
            self._place = open_place(url)
        self._fs, self._root = self._place.fs, self._place.root
        self._local = isinstance(self._place, LocalPlace)

    def prepare(self) -> None:
        """Make the place; what lies in a folder of this machine is for its owner alone."""
        with self._explained("prepare", "objects"):
            if self._local:
                Path(self._root).mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("objects", "snapshots"):
                self._fs.makedirs(f"{self._root}/{name}", exist_ok=True)

    def sizes(self) -> dict[str, int]:
        """List every object with its size."""
        try:
            with self._explained("list", "objects"):
                found = self._fs.ls(f"{self._root}/objects", detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {PurePosixPath(each["name"]).name: int(each["size"]) for each in found}

    def put(self, piece: Piece, read: Read) -> None:
        """Write an object under its name; what was cut off there is written over."""
        where = self._object(piece.sha256)
        in_steps = not isinstance(self._place, ObjectPlace)
        aside = f"{self._root}/objects/.{piece.sha256}.part" if in_steps else where
        with self._explained("write", piece.sha256):
            with read() as source, self._fs.open(aside, "wb") as target:
                found = copy(source, target)
                if self._local:
                    target.flush()
                    os.fsync(target.fileno())
            if found != piece.sha256:
                self._fs.rm_file(aside)
                raise ChangedWhileRead("changed while it was copied")
            if in_steps:
                self._fs.mv(aside, where)

    def get(self, piece: Piece, target: IO[bytes]) -> None:
        """Copy an object out; raise ChangedWhileRead if it is not what its name says, or gone."""
        try:
            with (
                self._explained("read", piece.sha256),
                self._fs.open(self._object(piece.sha256), "rb") as source,
            ):
                found = copy(source, target)
        except FileNotFoundError:
            raise ChangedWhileRead("is missing") from None
        if found != piece.sha256:
            raise ChangedWhileRead("is damaged: its SHA-256 is not its name")

    def read(self, piece: Piece) -> bytes:
        """Return a small object's bytes, checked."""
        data = io.BytesIO()
        self.get(piece, data)
        return data.getvalue()

    def snapshots(self) -> list[str]:
        """Name the snapshots, the oldest first."""
        with self._explained("list", "snapshots"):
            names = self._small.names("snapshots")
        return [name for name in names if NAME.fullmatch(name)]

    def snapshot(self, name: str) -> BackupSnapshot:
        """Read one snapshot, checked against its name."""
        return decode(name, self._small.read(f"snapshots/{name}"))

    def seal(self, snapshot: BackupSnapshot) -> str:
        """Write a snapshot, which completes it; return its name."""
        if self._local:
            sync_folder(Path(self._root, "objects"))
        name, data = encode(snapshot)
        with self._explained("write", name):
            self._small.create(f"snapshots/{name}", data)
        return name

    def _object(self, sha256: str) -> str:
        return f"{self._root}/objects/{sha256}"

    @contextmanager
    def _explained(self, action: str, what: str) -> Iterator[None]:
        """Say what failed; whatever the driver calls it."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            raise
        except SlipwayError as error:
            if isinstance(error, ChangedWhileRead):
                raise
            raise SlipwayError(f"backup {error}") from None
        except Exception as error:
            said = (isinstance(error, OSError) and error.strerror) or str(error)
            reason = said or type(error).__name__
            raise SlipwayError(f"backup {self.url}: cannot {action} {what}: {reason}") from None


class Writes(Protocol):
    """Takes bytes."""

    def write(self, chunk: bytes, /) -> object:
        """Take some."""


def copy(source: IO[bytes], target: Writes | None) -> str:
    """Copy bytes and return their SHA-256; without a target, only read them."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    return digest.hexdigest()
