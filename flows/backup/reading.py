"""Read what a backup is to keep: hash it, and refuse what is not what its name promises."""

import hashlib
import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from flows.backup.archive import Read, copy
from flows.backup.cached import expected_md5
from flows.backup.holdings import FoundFile
from flows.backup.plan import Reading
from flows.backup.snapshot import KeptFile
from flows.backup.store_files import promised_sha256
from slipway.errors import SlipwayError


def read_files(files: tuple[FoundFile, ...], reading: Reading) -> list[KeptFile]:
    """Hash files; raise SlipwayError that names every one that is not what its name promises."""
    kept, damaged = dict(reading.known), []
    for found in reading.unread:
        with _opened(found) as source:
            file, md5 = _hashed(found, source)
        if expected_md5(found) not in (None, md5):
            damaged.append(f"{found.path}: its MD5 is not its name")
        elif promised_sha256(found) not in (None, file.sha256):
            damaged.append(f"{found.path}: its SHA-256 is not the one that its manifest lists")
        kept[found.path] = file
    if damaged:
        names = "\n  ".join(damaged)
        raise SlipwayError(
            f"{len(damaged)} damaged files would be kept as if they were whole:\n  {names}\n"
            "  no snapshot was made; mend them first: slipway verify --all --heal"
        )
    return [_as_it_is(kept[found.path], found) for found in files]


def opening(found: FoundFile) -> Read:
    """Return how a file is opened to be copied."""
    data = found.data
    return (lambda: found.where.open("rb")) if data is None else (lambda: io.BytesIO(data))


def size_of(found: FoundFile) -> int:
    """Return how many bytes there are to keep."""
    with _explained(found):
        return found.where.stat().st_size if found.data is None else len(found.data)


@contextmanager
def _opened(found: FoundFile) -> Iterator[IO[bytes]]:
    with _explained(found), opening(found)() as source:
        yield source


@contextmanager
def _explained(found: FoundFile) -> Iterator[None]:
    try:
        yield
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


def _hashed(found: FoundFile, source: IO[bytes]) -> tuple[KeptFile, str]:
    through = _Md5()
    sha256 = copy(source, through)
    kept = KeptFile(
        sha256=sha256,
        size_bytes=through.size_bytes,
        path=found.path,
        kind=found.kind,
        mode=_mode(found),
    )
    return kept, through.md5.hexdigest()


def _as_it_is(kept: KeptFile, found: FoundFile) -> KeptFile:
    """Take the mode of now: what is in a file is fixed, who may read it is not."""
    mode = _mode(found)
    return kept if kept.mode == mode else kept.model_copy(update={"mode": mode})


def _mode(found: FoundFile) -> int:
    with _explained(found):
        return stat.S_IMODE(found.where.stat().st_mode)
