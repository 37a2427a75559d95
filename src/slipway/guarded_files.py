"""Read secrets from files that others can neither read nor change, and see when they change."""

import os
import stat
from pathlib import Path
from typing import Final

from slipway.errors import SlipwayError

SECRET: Final = 0o640
"""The most that a file with a secret may allow: its group may be the host's own."""

PUBLISHED: Final = 0o755
"""The most that a file of public keys may allow: whoever could change it could sign tokens."""

Stamp = tuple[int, int, int, int]


def read_guarded(path: Path, most: int) -> bytes:
    """Read a regular file whose mode allows no more than `most`; raise SlipwayError otherwise.

    The mode is that of the opened file, so it cannot be exchanged between look and read.
    Without O_NONBLOCK a named pipe in its place would hold the reader up for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SlipwayError(f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SlipwayError(f"{path}: must be a regular file")
        if stat.S_IMODE(mode) & ~most:
            raise SlipwayError(
                f"{path}: others could {'read' if most == SECRET else 'change'} it: its mode is"
                f" {stat.S_IMODE(mode):04o}, at most {most:04o} is accepted;"
                f" chmod {most:04o} {path}"
            )
        return file.read()


def stamp(path: Path) -> Stamp | None:
    """Return what changes whenever a file is written, replaced or has its mode changed."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
