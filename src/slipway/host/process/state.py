"""The folder that a host has to itself."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from slipway.errors import SlipwayError


@contextlib.contextmanager
def own_state(state: Path) -> Iterator[None]:
    """Make sure that no other host uses the same state folder."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SlipwayError(
                f"{state}: another host uses this folder; stop it or give --state another"
            ) from None
        yield
