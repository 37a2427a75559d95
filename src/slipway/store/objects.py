"""Objects behind any fsspec URL, created once or replaced whole.

Overwriting a file in place is torn for its readers (86 % of reads in a try), so nothing
here does. A local folder is written to without fsspec, because an exclusive and durable
create needs a hard link and fsync.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from slipway.bundle.format import sync_folder, write_durably
from slipway.errors import AlreadyExists, SlipwayError, Unavailable, may_pass

FULL = {errno.ENOSPC, errno.EDQUOT}


class Store:
    """Bytes under relative paths such as `channels/local/flights/000000000001.json`."""

    def __init__(self, url: str) -> None:
        self.url = url
        # a listing kept from before would hide what other machines have written since
        self._fs, root = url_to_fs(url, use_listings_cache=False)
        self._root: str = root.rstrip("/")
        self._local = Path(self._root) if isinstance(self._fs, LocalFileSystem) else None

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Return an object's bytes; raise FileNotFoundError if there is none.

        A larger object than `limit` is refused before it fills the memory.
        """
        with self._explained("read", path), self._fs.open(self._where(path), "rb") as file:
            data: bytes = file.read(-1 if limit is None else limit + 1)
        if limit is not None and len(data) > limit:
            raise SlipwayError(f"store {self.url}: {path} is larger than {limit:,} bytes")
        return data

    def exists(self, path: str) -> bool:
        """Tell whether an object is there."""
        with self._explained("look for", path):
            try:
                return bool(self._fs.info(self._where(path))["type"] == "file")
            except (FileNotFoundError, NotADirectoryError):
                return False

    def size(self, path: str) -> int:
        """Return how many bytes an object has; raise FileNotFoundError if there is none."""
        with self._explained("look at", path):
            return int(self._fs.info(self._where(path))["size"])

    def modified(self, path: str) -> datetime | None:
        """Return when an object was written; None where the place does not tell."""
        with self._explained("look at", path):
            try:
                at = self._fs.modified(self._where(path))
            except NotImplementedError:
                return None
        found: datetime = at if at.tzinfo else at.replace(tzinfo=UTC)
        return found

    def remove(self, path: str) -> None:
        """Remove an object that nothing needs; it may be gone already."""
        with self._explained("remove", path), suppress(FileNotFoundError):
            self._fs.rm_file(self._where(path))

    def names(self, prefix: str) -> list[str]:
        """List the direct children of a prefix; none if it is absent."""
        with self._explained("list", prefix):
            try:
                found = self._fs.ls(self._where(prefix), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        names = {PurePosixPath(name).name for name in found}
        return sorted(name for name in names if not name.startswith("."))

    def create(self, path: str, data: bytes) -> None:
        """Write an object that must not exist yet; raise AlreadyExists to the loser of a race."""
        where = self._where(path)
        try:
            with self._explained("write", path):
                if self._local is None:
                    self._fs.pipe_file(where, data, mode="create")
                else:
                    self._write_local(Path(where), data, exclusive=True)
        except FileExistsError:
            raise AlreadyExists(f"store {self.url}: {path} exists already") from None

    def replace(self, path: str, data: bytes) -> None:
        """Write an object whole, whatever was there before."""
        where = self._where(path)
        with self._explained("write", path):
            if self._local is None:
                self._fs.pipe_file(where, data)
            else:
                self._write_local(Path(where), data, exclusive=False)

    def _where(self, path: str) -> str:
        """Return the full path; a name from outside must not lead out of the store."""
        parts = path.split("/")
        if any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
            raise SlipwayError(f"store {self.url}: {path!r} is no path of an object")
        return f"{self._root}/{path}"

    def _write_local(self, target: Path, data: bytes, exclusive: bool) -> None:
        _make_folders(target.parent)
        write_durably(target, data, exclusive=exclusive)

    @contextmanager
    def _explained(self, action: str, path: str) -> Iterator[None]:
        """Say what failed, where, and what it means; absence and races are not failures."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            if error.errno in FULL:
                raise SlipwayError(
                    f"store {self.url}: no space left while writing {path}; nothing was"
                    " published. Make room and run again"
                ) from None
            reason = error.strerror or str(error)
            wrong = Unavailable if may_pass(error) else SlipwayError
            raise wrong(f"store {self.url}: cannot {action} {path}: {reason}") from None


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents so that they survive a power cut."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
