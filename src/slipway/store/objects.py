"""Objects behind any fsspec URL, created once or replaced whole.

Overwriting a file in place is torn for its readers (86 % of reads in a try), so nothing
here does; how each kind of place writes is in `places`.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import PurePosixPath

from slipway.errors import AlreadyExists, SlipwayError, Unavailable
from slipway.store.places import Place, did_not_answer, open_place

FULL = {errno.ENOSPC, errno.EDQUOT}


class Store:
    """Bytes under relative paths such as `channels/local/flights/000000000001.json`.

    It is reached when it is first used, and again when it was lost: a host outlives its store's
    server.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._open: Place | None = None

    def read(self, path: str, limit: int | None = None) -> bytes:
        """Return an object's bytes; raise FileNotFoundError if there is none.

        A larger object than `limit` is refused before it fills the memory.
        """
        with self._explained("read", path) as place:
            data = place.read(_under(place, path), limit)
        if limit is not None and len(data) > limit:
            raise SlipwayError(f"store {self.url}: {path} is larger than {limit:,} bytes")
        return data

    def exists(self, path: str) -> bool:
        """Tell whether an object is there."""
        with self._explained("look for", path) as place:
            try:
                return bool(place.fs.info(_under(place, path))["type"] == "file")
            except (FileNotFoundError, NotADirectoryError):
                return False

    def size(self, path: str) -> int:
        """Return how many bytes an object has; raise FileNotFoundError if there is none."""
        with self._explained("look at", path) as place:
            return int(place.fs.info(_under(place, path))["size"])

    def modified(self, path: str) -> datetime | None:
        """Return when an object was written; None where the place does not tell."""
        with self._explained("look at", path) as place:
            try:
                at = place.fs.modified(_under(place, path))
            except NotImplementedError:
                return None
        found: datetime = at if at.tzinfo else at.replace(tzinfo=UTC)
        return found

    def remove(self, path: str) -> None:
        """Remove an object that nothing needs; it may be gone already."""
        with self._explained("remove", path) as place, suppress(FileNotFoundError):
            place.fs.rm_file(_under(place, path))

    def names(self, prefix: str) -> list[str]:
        """List the direct children of a prefix; none if it is absent."""
        with self._explained("list", prefix) as place:
            try:
                found = place.fs.ls(_under(place, prefix), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        names = {PurePosixPath(name).name for name in found}
        return sorted(name for name in names if not name.startswith("."))

    def create(self, path: str, data: bytes) -> None:
        """Write an object that must not exist yet; raise AlreadyExists to the loser of a race."""
        try:
            with self._explained("write", path) as place:
                place.create(_under(place, path), data)
        except FileExistsError:
            raise AlreadyExists(f"store {self.url}: {path} exists already") from None

    def replace(self, path: str, data: bytes) -> None:
        """Write an object whole, whatever was there before."""
        with self._explained("write", path) as place:
            place.replace(_under(place, path), data)

    @contextmanager
    def _explained(self, action: str, path: str) -> Iterator[Place]:
        """Say what failed, where, and what it means; absence and races are not failures."""
        _check(self.url, path)
        try:
            if self._open is None or self._open.lost:
                self._open = open_place(self.url)
            yield self._open
        except (FileNotFoundError, FileExistsError):
            raise
        except SlipwayError:
            raise
        except Exception as error:  # each driver has its own; a network's are not OSErrors
            if isinstance(error, OSError) and error.errno in FULL:
                raise SlipwayError(
                    f"store {self.url}: no space left while writing {path}; nothing was"
                    " published. Make room and run again"
                ) from None
            said = (isinstance(error, OSError) and error.strerror) or str(error)
            wrong: type[SlipwayError] = SlipwayError
            if did_not_answer(error) or (self._open is not None and self._open.lost):
                wrong, self._open = Unavailable, None
            reason = said or type(error).__name__
            raise wrong(f"store {self.url}: cannot {action} {path}: {reason}") from None


def _check(url: str, path: str) -> None:
    """Refuse a name from outside that would lead out of the store."""
    parts = path.split("/")
    if any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        raise SlipwayError(f"store {url}: {path!r} is no path of an object")


def _under(place: Place, path: str) -> str:
    return f"{place.root}/{path}"
